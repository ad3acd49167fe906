//! What an idea can become, and the call that makes it.

use berth_sdk::{
    http_out::{self, Call},
    prelude::*,
    serde_json::{Map, Value},
};

use super::Idea;

/// What an idea can become.
#[choice]
pub enum Target {
    /// A task of planning.
    Task,
    /// A milestone, an epic or a story of planning.
    Roadmap,
    /// An experiment of quality.
    Experiment,
}

impl Target {
    /// What the idea has become already.
    pub fn of(self, idea: &Idea) -> Option<&Id> {
        match self {
            Self::Task => idea.linked_task_id.as_ref(),
            Self::Roadmap => idea.linked_roadmap_item.as_ref(),
            Self::Experiment => idea.experiment_id.as_ref(),
        }
    }

    /// Notes what the idea has become.
    pub fn link(self, idea: &mut Idea, id: Id) {
        let link = match self {
            Self::Task => &mut idea.linked_task_id,
            Self::Roadmap => &mut idea.linked_roadmap_item,
            Self::Experiment => &mut idea.experiment_id,
        };
        *link = Some(id);
    }
}

/// The body of `POST /api/innovation/{id}/convert`.
#[data]
pub struct Conversion {
    /// What to make of it.
    pub to: Target,
    /// In which project, where the idea has none.
    pub project_id: Option<Id>,
    /// A new milestone of this roadmap; without any of the three, of the project's first one.
    pub roadmap_id: Option<Id>,
    /// A new epic of this milestone instead.
    pub milestone_id: Option<Id>,
    /// A new story of this epic instead.
    pub epic_id: Option<Id>,
    /// Members of the task, the roadmap item or the experiment that are to be other than the idea says.
    pub fields: Option<Map<String, Value>>,
}

/// Characters of a description that a roadmap item or an experiment takes over.
const DESCRIPTION_MAX: usize = 5_000;

#[data]
struct Found {
    id: Id,
}

#[data]
struct Listed {
    items: Vec<Found>,
}

/// The call that makes it, as the caller. 400 without a project where one is needed; 422 without a roadmap.
pub fn call(idea: &Idea, wish: &Conversion) -> Result<(Call, Value)> {
    let project_id = idea.project_id.as_ref().or(wish.project_id.as_ref());
    let (call, mut body) = match wish.to {
        Target::Task => {
            let project_id = project_id.ok_or_else(no_project)?;
            (http_out::plugin("planning").post("/api/tasks"), task(idea, project_id))
        }
        Target::Roadmap => (http_out::plugin("planning").post(&place(wish, project_id)?), item(idea)),
        Target::Experiment => (http_out::plugin("quality").post("/api/experiments"), experiment(idea, project_id)),
    };
    if let (Some(body), Some(fields)) = (body.as_object_mut(), &wish.fields) {
        body.extend(
            fields.iter().filter(|(name, _)| *name != "projectId").map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    Ok((call, body))
}

fn no_project() -> Problem {
    Problem::field("projectId", "is required, as the idea belongs to no project")
}

/// Where the roadmap item goes: below the deepest that is named.
fn place(wish: &Conversion, project_id: Option<&Id>) -> Result<String> {
    if let Some(id) = &wish.epic_id {
        return Ok(format!("/api/roadmaps/epics/{id}/stories"));
    }
    if let Some(id) = &wish.milestone_id {
        return Ok(format!("/api/roadmaps/milestones/{id}/epics"));
    }
    if let Some(id) = &wish.roadmap_id {
        return Ok(format!("/api/roadmaps/{id}/milestones"));
    }
    let project_id = project_id.ok_or_else(no_project)?;
    let path = format!("/api/roadmaps?projectId={project_id}&sortBy=createdAt&order=asc&limit=1");
    let roadmaps: Listed = http_out::plugin("planning").get(&path).fetch()?;
    match roadmaps.items.first() {
        Some(roadmap) => Ok(format!("/api/roadmaps/{}/milestones", roadmap.id)),
        None => Err(Problem::unprocessable("The project has no roadmap.").with_code("NO_ROADMAP")),
    }
}

fn short(text: &str) -> String {
    text.chars().take(DESCRIPTION_MAX).collect()
}

fn task(idea: &Idea, project_id: &Id) -> Value {
    json!({
        "projectId": project_id, "title": idea.title, "description": idea.description, "type": "feature", "tags": ["idea"],
    })
}

fn item(idea: &Idea) -> Value {
    json!({ "name": idea.title, "description": short(&idea.description) })
}

/// What is there against what the idea says, half of the people each.
fn experiment(idea: &Idea, project_id: Option<&Id>) -> Value {
    json!({
        "name": idea.title, "hypothesis": short(&idea.description), "type": "ab", "projectId": project_id,
        "rolloutPercentage": 100, "primaryMetric": "success", "minSampleSize": 100,
        "variants": [
            { "name": "control", "weight": 1, "isControl": true, "config": {} },
            { "name": "idea", "weight": 1, "isControl": false, "config": {} },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(to: Target) -> Conversion {
        Conversion { to, project_id: None, roadmap_id: None, milestone_id: None, epic_id: None, fields: None }
    }

    #[test]
    fn the_deepest_place_that_is_named_decides() {
        let mut wish = wish(Target::Roadmap);
        assert_eq!(place(&wish, None).unwrap_err().errors[0].field, "projectId");
        wish.roadmap_id = Some("r".into());
        assert_eq!(place(&wish, None).unwrap(), "/api/roadmaps/r/milestones");
        wish.milestone_id = Some("m".into());
        assert_eq!(place(&wish, None).unwrap(), "/api/roadmaps/milestones/m/epics");
        wish.epic_id = Some("e".into());
        assert_eq!(place(&wish, None).unwrap(), "/api/roadmaps/epics/e/stories");
    }

    #[test]
    fn fields_are_other_than_the_idea_says_but_not_the_project() {
        let mut idea = crate::idea::tests::idea();
        assert_eq!(call(&idea, &wish(Target::Task)).unwrap_err().errors[0].field, "projectId");
        idea.project_id = Some("p1".into());
        let fields = json!({"priority": "high", "projectId": "p2"}).as_object().cloned();
        let (call, body) = call(&idea, &Conversion { fields, ..wish(Target::Task) }).unwrap();
        assert_eq!(call.url, "http://planning.internal/api/tasks");
        assert_eq!(
            (&body["projectId"], &body["priority"], &body["title"]),
            (&json!("p1"), &json!("high"), &json!("t"))
        );
    }
}
