//! Modules: the parts a project's code is made of, what they depend on, and how good they are.

mod detect;

use berth_sdk::{
    entity::{Column, Kind},
    prelude::*,
    serde_json::Value,
};

use crate::project::{self, Project};

/// How deep modules may nest.
const DEPTH_MAX: usize = 20;

/// What the quality of a module is made of; each from 0 (bad) to 1 (good).
#[data]
#[derive(Copy)]
pub(crate) struct Metrics {
    #[field(min = 0, max = 1)]
    pub cohesion: f64,
    #[field(min = 0, max = 1)]
    pub coupling: f64,
    #[field(min = 0, max = 1)]
    pub complexity: f64,
    #[field(min = 0, max = 1)]
    pub duplication: f64,
}

impl Column for Metrics {
    const KIND: Kind = Kind::Json;
}

impl Metrics {
    /// 0.30 cohesion + 0.25 coupling + 0.25 complexity + 0.20 duplication.
    fn quality(self) -> f64 {
        let score = 0.30 * self.cohesion + 0.25 * self.coupling + 0.25 * self.complexity + 0.20 * self.duplication;
        crate::score::rounded(score)
    }
}

/// A module of a project.
#[entity(table = "project_modules", sort = "name")]
pub(crate) struct Module {
    #[field(immutable, parent = Project)]
    pub project_id: Id,
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    #[field(max = 1024, plain)]
    pub path: String,
    #[field(default, max = 10_000)]
    pub files: Vec<String>,
    /// Modules of the same project that it needs.
    #[field(default, max = 200)]
    pub dependencies: Vec<Id>,
    /// How sure it is that this is a module.
    #[field(min = 0, max = 1, default = 1.0)]
    pub confidence: f64,
    /// Follows from `metrics`.
    #[field(readonly)]
    pub quality_score: Option<f64>,
    pub metrics: Option<Metrics>,
    #[field(parent = Module)]
    pub parent_module_id: Option<Id>,
}

impl Rules for Module {
    fn scope() -> Option<Condition> {
        Some(project::within("project_modules"))
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &self.project_id)?;
        self.settle(transaction, None)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &old.project_id)?;
        self.settle(transaction, Some(old))
    }

    /// What is below it goes with it, and nothing depends on either any more.
    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        project::require_edit(transaction, &row.project_id)?;
        let mut gone = vec![row.id.clone()];
        let mut level = vec![row.id.clone()];
        for _ in 0..DEPTH_MAX {
            let below: Vec<Stored<Self>> =
                Select::new().one_of("parent_module_id", level.iter().take(400)).all(transaction)?;
            level = below.into_iter().map(|module| module.id).filter(|id| !gone.contains(id)).collect();
            if level.is_empty() {
                break;
            }
            gone.extend(level.iter().cloned());
        }
        for id in gone.iter().filter(|id| **id != row.id) {
            transaction.execute("DELETE FROM project_modules WHERE id = $1", params![id])?;
        }
        let rest: Vec<Stored<Self>> = Select::new()
            .equal("project_id", &row.project_id)
            .condition("CAST(dependencies AS TEXT) <> ?", ["[]"])
            .all(transaction)?;
        for mut module in rest.into_iter().filter(|module| !gone.contains(&module.id)) {
            let count = module.dependencies.len();
            module.dependencies.retain(|id| !gone.contains(id));
            if module.dependencies.len() != count {
                entity::save(transaction, &mut module)?;
            }
        }
        Ok(())
    }
}

impl Module {
    /// Its score, and whether what it names is there.
    fn settle(&mut self, transaction: &Transaction, old: Option<&Stored<Self>>) -> Result<()> {
        self.quality_score = self.metrics.map(Metrics::quality);
        let own = old.map(|old| &old.id);
        if old.is_none_or(|old| old.dependencies != self.dependencies) {
            self.check_dependencies(transaction, own)?;
        }
        if old.is_none_or(|old| old.parent_module_id != self.parent_module_id) {
            self.check_parent(transaction, own)?;
        }
        Ok(())
    }

    fn check_dependencies(&mut self, transaction: &Transaction, own: Option<&Id>) -> Result<()> {
        self.dependencies.sort();
        self.dependencies.dedup();
        if own.is_some_and(|own| self.dependencies.contains(own)) {
            return Err(Problem::field("dependencies", "must be other modules"));
        }
        if self.dependencies.is_empty() {
            return Ok(());
        }
        let select = Select::<Self>::new().equal("project_id", &self.project_id).one_of("id", &self.dependencies);
        let known: Vec<Id> = select.all(transaction)?.into_iter().map(|module| module.id).collect();
        match self.dependencies.iter().find(|id| !known.contains(id)) {
            None => Ok(()),
            Some(id) => Err(Problem::missing("module in the project").with("moduleId", id.as_str())),
        }
    }

    fn check_parent(&self, transaction: &Transaction, own: Option<&Id>) -> Result<()> {
        if own.is_some() && self.parent_module_id.is_some() {
            // Two modules do not become each other's parents at once.
            project::lock(transaction, &[&self.project_id])?;
        }
        let mut above = self.parent_module_id.clone();
        for depth in 0..DEPTH_MAX {
            let Some(id) = above else { return Ok(()) };
            if Some(&id) == own {
                return Err(if depth == 0 {
                    Problem::field("parentModuleId", "must be another module")
                } else {
                    Problem::conflict("It would become its own ancestor.").with_code("MODULE_CYCLE")
                });
            }
            let parent = entity::read::<Self>(transaction, &id)?;
            if parent.project_id != self.project_id {
                return Err(Problem::unprocessable("The parent belongs to another project."));
            }
            above = parent.data.parent_module_id;
        }
        Err(Problem::unprocessable(format!("Modules nest at most {DEPTH_MAX} levels deep.")))
    }
}

/// `GET /api/projects/{id}/modules`.
pub(crate) fn of_project(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Module>>>> {
    let project = entity::read::<Project>(&Pool, &id)?;
    Select::new().equal("project_id", &project.id).page(&Pool, &query)
}

fn submodules(Params(id): Params<Id>, query: PageQuery) -> Result<JsonText<Page<Stored<Module>>>> {
    let module = entity::read::<Module>(&Pool, &id)?;
    Select::new().equal("parent_module_id", &module.id).page(&Pool, &query)
}

fn add_submodule(Params(id): Params<Id>, Json(body): Json<Value>) -> Result<Created<Stored<Module>>> {
    let mut fields = body.as_object().cloned().unwrap_or_default();
    database::transaction(|transaction| {
        let parent = entity::read::<Module>(transaction, &id)?;
        fields.insert("projectId".into(), parent.project_id.as_str().into());
        fields.insert("parentModuleId".into(), parent.id.as_str().into());
        entity::create_from::<Module>(transaction, fields).map(Created)
    })
}

/// 404 for a module that is below no other.
fn require_submodule(database: &dyn Executor, id: &Id) -> Result<()> {
    match entity::read::<Module>(database, id)?.parent_module_id {
        Some(_) => Ok(()),
        None => Err(Problem::missing("submodule")),
    }
}

fn change_submodule(Params(id): Params<Id>, if_match: IfMatch, Json(body): Json<Value>) -> Result<Stored<Module>> {
    let patch = body.as_object().cloned().unwrap_or_default();
    database::transaction(|transaction| {
        require_submodule(transaction, &id)?;
        entity::update::<Module>(transaction, &id, &patch, if_match)
    })
}

fn remove_submodule(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        require_submodule(transaction, &id)?;
        entity::delete::<Module>(transaction, &id, if_match)
    })?;
    Ok(NoContent)
}

/// The routes of modules.
pub(crate) fn routes() -> Router {
    Router::new()
        .entity::<Module>("/api/modules")
        .post("/api/modules/detect", detect::detect)
        .summary("Propose modules for files.")
        .get("/api/modules/{id}/submodules", submodules)
        .summary("List the submodules of a module.")
        .post("/api/modules/{id}/submodules", add_submodule)
        .summary("Create a submodule.")
        .put("/api/modules/submodules/{id}", change_submodule)
        .summary("Update a submodule.")
        .delete("/api/modules/submodules/{id}", remove_submodule)
        .summary("Delete a submodule.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Metrics;

    #[test]
    fn the_quality_weighs_cohesion_most() {
        let metrics =
            |cohesion, coupling, complexity, duplication| Metrics { cohesion, coupling, complexity, duplication };
        assert_eq!(metrics(1.0, 0.0, 0.0, 0.0).quality(), 0.3);
        assert_eq!(metrics(0.0, 1.0, 0.0, 0.0).quality(), 0.25);
        assert_eq!(metrics(0.0, 0.0, 1.0, 0.0).quality(), 0.25);
        assert_eq!(metrics(0.0, 0.0, 0.0, 1.0).quality(), 0.2);
        assert_eq!(metrics(1.0, 1.0, 1.0, 1.0).quality(), 1.0);
    }

    proptest! {
        #[test]
        fn a_quality_is_never_outside_its_range(a in 0.0f64..=1.0, b in 0.0f64..=1.0, c in 0.0f64..=1.0, d in 0.0f64..=1.0) {
            let quality = Metrics { cohesion: a, coupling: b, complexity: c, duplication: d }.quality();
            prop_assert!((0.0..=1.0).contains(&quality));
        }
    }
}
