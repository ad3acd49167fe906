//! Stories and tasks made by ai-service. Stories are proposed and not stored; tasks are.

use berth_sdk::prelude::*;

use super::{Epic, Roadmap, Story};
use crate::{
    assistant::{self, Question},
    project,
    task::{Priority, Task, TaskType},
};

/// The most that one answer of the model may hold.
const PROPOSALS_MAX: u32 = 30;

/// What the model may be told besides.
#[data]
pub(crate) struct Hint {
    /// What to mind.
    #[field(max = 4000)]
    guidance: Option<String>,
    /// How many are wanted at most.
    #[field(min = 1, max = 30)]
    count: Option<i64>,
}

/// Proposed stories.
#[data]
pub(crate) struct StoryProposals {
    #[field(min = 1, max = PROPOSALS_MAX)]
    stories: Vec<StoryProposal>,
}

/// A story that is not stored.
#[data]
pub(crate) struct StoryProposal {
    #[field(min = 1, max = 200, plain)]
    name: String,
    #[field(default)]
    description: String,
}

#[data]
struct TaskProposals {
    #[field(min = 1, max = PROPOSALS_MAX)]
    tasks: Vec<TaskProposal>,
}

#[data]
struct TaskProposal {
    #[field(min = 1, max = 200, plain)]
    title: String,
    #[field(default)]
    description: String,
    #[field(default = TaskType::Feature)]
    r#type: TaskType,
    #[field(default = Priority::Medium)]
    priority: Priority,
    #[field(min = 0, max = 1000)]
    estimated_hours: Option<f64>,
}

const STORIES: &str = "You split an epic of a software roadmap into user stories. Answer with one JSON object and nothing \
    else: {\"stories\": [{\"name\": text, \"description\": text}]}. Do not repeat stories that are there already.";
const TASKS: &str = "You split a user story into tasks for engineers. Answer with one JSON object and nothing else: \
    {\"tasks\": [{\"title\": text, \"description\": text, \"type\": feature|bug|refactor|test|documentation, \"priority\": \
    low|medium|high|critical, \"estimatedHours\": number}]}.";

/// `POST /api/roadmaps/epics/{id}/stories/generate`.
pub(crate) fn stories(Params(id): Params<Id>, hint: Option<Json<Hint>>) -> Result<Json<StoryProposals>> {
    let epic = entity::read::<Epic>(&Pool, &id)?;
    let roadmap = entity::read::<Roadmap>(&Pool, &epic.roadmap_id)?;
    let known = Select::<Story>::new().equal("epic_id", &epic.id).limit(200).all(&Pool)?;
    let names: Vec<&str> = known.iter().map(|story| story.name.as_str()).collect();
    let wish = json!({
        "roadmap": roadmap.name, "epic": { "name": epic.name, "description": epic.description }, "stories": names,
        "guidance": guidance(hint.as_ref()), "count": count(hint.as_ref()),
        "context": assistant::context(&epic.project_id, &epic.name)?,
    });
    let question = Question { prompt: None, system: STORIES, wish, what: "Proposals of stories" };
    assistant::ask(&question, assistant::object_in::<StoryProposals>).map(Json)
}

/// `POST /api/roadmaps/stories/{id}/tasks/generate`: makes the tasks, all or none.
pub(crate) fn tasks(Params(id): Params<Id>, hint: Option<Json<Hint>>) -> Result<Created<Page<Stored<Task>>>> {
    let story = entity::read::<Story>(&Pool, &id)?;
    project::require_edit(&Pool, &story.project_id)?;
    let wish = json!({
        "story": { "name": story.name, "description": story.description },
        "guidance": guidance(hint.as_ref()), "count": count(hint.as_ref()),
        "context": assistant::context(&story.project_id, &story.name)?,
    });
    let question = Question { prompt: None, system: TASKS, wish, what: "Generated tasks" };
    let proposals = assistant::ask(&question, assistant::object_in::<TaskProposals>)?;
    let made = database::transaction(|transaction| {
        let made = proposals
            .tasks
            .into_iter()
            .map(|proposal| {
                let task = Task {
                    description: Some(proposal.description).filter(|text| !text.is_empty()),
                    r#type: proposal.r#type,
                    priority: proposal.priority,
                    estimated_hours: proposal.estimated_hours,
                    story_id: Some(story.id.clone()),
                    ..Task::new(story.project_id.clone(), proposal.title)
                };
                entity::create(transaction, task)
            })
            .collect::<Result<Vec<_>>>()?;
        let ids: Vec<&Id> = made.iter().map(|task| &task.id).collect();
        transaction.publish(
            "planning.task.generated",
            &json!({ "projectId": story.project_id, "storyId": story.id, "taskIds": ids, "count": ids.len() }),
        )?;
        Ok::<_, Problem>(made)
    })?;
    let total = i64::try_from(made.len()).unwrap_or(i64::MAX);
    Ok(Created(PageQuery::default().envelope(made, total)))
}

fn guidance(hint: Option<&Json<Hint>>) -> Option<&str> {
    hint.and_then(|Json(hint)| hint.guidance.as_deref())
}

fn count(hint: Option<&Json<Hint>>) -> i64 {
    hint.and_then(|Json(hint)| hint.count).unwrap_or(8)
}
