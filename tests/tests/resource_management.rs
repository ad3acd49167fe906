//! resource-management: whose hours are planned for what, what does not fit, who is away, and who leads whom.

use berth_tests::answer::text;
use berth_tests::days::day;
use berth_tests::members::host_with_ada;
use berth_tests::{Client, eventually, members, plans};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

const RESOURCES: &str = "/api/resources";
const CAPACITY: &str = "/api/capacity";
const ALLOCATIONS: &str = "/api/capacity/allocations";
const TIME_OFF: &str = "/api/capacity/time-off";

async fn allocate(client: &Client, user: &str, hours: f64, first: i64, last: i64) -> berth_tests::Answer {
    let body = json!({"userId": user, "hours": hours, "start": day(first), "end": day(last)});
    client.post(&format!("{CAPACITY}/allocate"), &body).await
}

async fn week(client: &Client, user: &str, number: i64) -> Value {
    let path = format!("{CAPACITY}?userId={user}&weekStart={}", day(number));
    client.get(&path).await.expect(200)
}

/// A team that `lead` maintains and the others are in; its id.
async fn team(admin: &Client, lead: &Client, others: &[&Client]) -> String {
    let id = text(&admin.post("/api/teams", &json!({"name": "Crane"})).await.expect(201), "id");
    let mut list = vec![json!({"userId": members::id(lead), "role": "maintainer"})];
    list.extend(others.iter().map(|one| json!({"userId": members::id(one), "role": "member"})));
    admin.post(&format!("/api/teams/{id}/members"), &json!({ "members": list })).await.done(200);
    id
}

#[tokio::test]
async fn a_profile_is_its_owners_and_their_leads() {
    let (host, ada) = host_with_ada().await;
    let [bob, cem] = [
        members::bring(&host, &ada, "bob@example.com", "Member").await,
        members::bring(&host, &ada, "cem@example.com", "Member").await,
    ];
    let vic = members::bring(&host, &ada, "vic@example.com", "Viewer").await;
    let own = members::id(&bob);
    let body = json!({"userId": own, "weeklyHours": 30, "workingDays": [1, 2, 3], "timezone": "Europe/Berlin",
        "skills": [{"skill": "Rust", "level": 4}, {"skill": "SQL", "level": 2}]});
    let made = bob.post(RESOURCES, &body).await.expect(201);
    assert_eq!((&made["weeklyHours"], &made["version"]), (&json!(30.0), &json!(1)), "{made}");
    bob.post(RESOURCES, &body).await.problem(409, "PROFILE_EXISTS");
    let path = format!("{RESOURCES}/{own}");
    // Others read it, and only those who lead write it; what an hour costs is said by them.
    cem.put(&path, &json!({"weeklyHours": 1})).await.problem(403, "FORBIDDEN");
    vic.put(&path, &json!({"weeklyHours": 1})).await.problem(403, "FORBIDDEN");
    bob.put(&path, &json!({"costRateMicro": 1})).await.problem(403, "FORBIDDEN");
    ada.put(&path, &json!({"costRateMicro": 5_000_000_000_i64})).await.done(200);
    for (client, seen) in [(&bob, json!(5_000_000_000_i64)), (&cem, Value::Null), (&vic, Value::Null)] {
        assert_eq!(client.get(&path).await.expect(200)["costRateMicro"], seen);
        assert_eq!(client.get(RESOURCES).await.expect(200)["items"][0]["costRateMicro"], seen);
    }
    // Nor does the order of the list tell it.
    let by_cost = format!("{RESOURCES}?sortBy=costRateMicro");
    for client in [&bob, &vic] {
        assert_eq!(client.get(&by_cost).await.faulty_fields(), ["sortBy"]);
    }
    assert_eq!(ada.get(&by_cost).await.expect(200)["total"], 1);
    let stale = bob.request(Method::PUT, &path).header("if-match", "\"1\"").json(&json!({"weeklyHours": 20}));
    bob.send(stale).await.problem(412, "PRECONDITION_FAILED");
    let changed = bob.put(&path, &json!({"weeklyHours": 24})).await.expect(200);
    assert_eq!((&changed["weeklyHours"], &changed["workingDays"]), (&json!(24.0), &json!([1, 2, 3])));
    // Everything that is wrong is named.
    let wrong = bob.put(&path, &json!({"workingDays": [0, 2, 2], "timezone": "Mars/Base", "weeklyHours": 100})).await;
    wrong.problem(400, "VALIDATION_ERROR");
    let mut fields = wrong.faulty_fields();
    fields.sort();
    assert_eq!(fields, ["timezone", "weeklyHours", "workingDays[0]", "workingDays[2]"]);
    let stranger = json!({"userId": "01900000-0000-7000-8000-00000000dead"});
    ada.post(RESOURCES, &stranger).await.problem(400, "VALIDATION_ERROR");
    // Skills are counted, and found.
    ada.post(RESOURCES, &json!({"userId": members::id(&ada), "skills": [{"skill": "rust", "level": 2}]}))
        .await
        .done(201);
    let skills = vic.get(&format!("{RESOURCES}/skills?sortBy=people&order=desc")).await.expect(200);
    assert_eq!((&skills["total"], &skills["items"][0]["people"]), (&json!(2), &json!(2)), "{skills}");
    assert_eq!(skills["items"][0]["averageLevel"], 3.0);
    let found = vic.get(&format!("{RESOURCES}?skill=sql")).await.expect(200);
    assert_eq!((&found["total"], &found["items"][0]["userId"]), (&json!(1), &json!(own)));
    // Three days of eight hours, for whoever asks in the organization; nobody else knows of it.
    let days = vic.get(&format!("{path}/availability?from={}&to={}", day(0), day(6))).await.expect(200);
    assert_eq!((&days["hours"]["total"], &days["days"][0]["hours"]["total"]), (&json!(24.0), &json!(8.0)), "{days}");
    assert_eq!(days["days"][3]["hours"]["total"], 0.0, "{days}");
    let eve = host.client().register("eve@example.com", "Reef").await;
    eve.get(&path).await.problem(404, "NOT_FOUND");
    eve.put(&path, &json!({"weeklyHours": 1})).await.problem(404, "NOT_FOUND");
    eve.delete(&path).await.problem(404, "NOT_FOUND");
    eve.get(&format!("{path}/availability")).await.problem(404, "NOT_FOUND");
    eve.get(&format!("{CAPACITY}?userId={own}")).await.problem(404, "NOT_FOUND");
    assert_eq!(eve.get(RESOURCES).await.expect(200)["total"], 0);
    bob.delete(&path).await.problem(403, "FORBIDDEN");
    ada.delete(&path).await.done(204);
    bob.get(&path).await.problem(404, "NOT_FOUND");
    // Who has none works as is usual.
    assert_eq!(week(&bob, &own, 0).await["hours"]["total"], 40.0);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_numbers_unless_it_is_forced() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let own = members::id(&bob);
    // Ten working days; two weeks of fifteen hours each.
    let first = allocate(&ada, &own, 30.0, 0, 11).await.expect(201);
    assert_eq!((&first["percentage"], &first["warnings"]), (&json!(37.5), &json!([])), "{first}");
    let seen = week(&bob, &own, 0).await;
    assert_eq!((&seen["hours"]["allocated"], &seen["hours"]["available"]), (&json!(15.0), &json!(25.0)), "{seen}");
    assert_eq!(
        (&seen["hours"]["utilization"], &seen["people"][0]["days"][1]["hours"]["allocated"]),
        (&json!(0.375), &json!(3.0))
    );
    let refused = allocate(&ada, &own, 60.0, 0, 9).await.problem(409, "OVERALLOCATED");
    let weeks = refused["overallocations"].as_array().cloned().unwrap_or_default();
    // Sixty hours over eight working days: 37.5 in the first week, where 25 are left; 22.5 in three days of the second, which
    // have them, as what is there can wait until the days after.
    assert_eq!(weeks.len(), 1, "{refused}");
    assert_eq!((&weeks[0]["requested"], &weeks[0]["available"]), (&json!(37.5), &json!(25.0)));
    assert_eq!((&weeks[0]["overallocationHours"], &weeks[0]["weekStart"]), (&json!(12.5), &json!(day(0))));
    assert_eq!(week(&bob, &own, 0).await["hours"]["allocated"], 15.0, "nothing was written");
    let body = json!({"userId": own, "allocatedHours": 30, "startDate": day(0), "endDate": day(4), "force": true});
    let forced = ada.post(ALLOCATIONS, &body).await.expect(201);
    let alerts = bob.get(&format!("{CAPACITY}/overallocations?userId={own}")).await.expect(200);
    assert_eq!((&alerts["total"], &alerts["items"][0]["overallocationHours"]), (&json!(1), &json!(5.0)), "{alerts}");
    let alert = text(&alerts["items"][0], "id");
    let acknowledged =
        bob.post(&format!("{CAPACITY}/overallocations/{alert}/acknowledge"), &json!({})).await.expect(200);
    assert_eq!(acknowledged["status"], "acknowledged");
    // Fewer hours are no new fault, and what fits again is no alert.
    let path = format!("{ALLOCATIONS}/{}", text(&forced, "id"));
    bob.put(&path, &json!({"allocatedHours": 28})).await.done(200);
    bob.put(&path, &json!({"allocatedHours": 33})).await.problem(409, "OVERALLOCATED");
    let half = bob.put(&path, &json!({"percentage": 50})).await.expect(200);
    assert_eq!((&half["allocatedHours"], &half["percentage"]), (&json!(20.0), &json!(50.0)), "{half}");
    assert_eq!(bob.get(&format!("{CAPACITY}/overallocations")).await.expect(200)["total"], 0);
    // What is cancelled takes no time, and stays so.
    bob.put(&path, &json!({"status": "cancelled"})).await.done(200);
    bob.put(&path, &json!({"status": "active"})).await.problem(409, "ILLEGAL_TRANSITION");
    assert_eq!(week(&bob, &own, 0).await["hours"]["allocated"], 15.0);
    // A week that is over is an administrator's to change.
    let past = json!({"userId": own, "allocatedHours": 8, "startDate": day(-21), "endDate": day(-21)});
    bob.post(ALLOCATIONS, &past).await.problem(409, "PAST_WEEK");
    let past = text(&ada.post(ALLOCATIONS, &past).await.expect(201), "id");
    bob.put(&format!("{ALLOCATIONS}/{past}"), &json!({"note": "x"})).await.problem(409, "PAST_WEEK");
    // Lists, tenancy, rights.
    let listed = bob.get(&format!("{ALLOCATIONS}?from={}&to={}&userId={own}", day(0), day(6))).await.expect(200);
    assert_eq!(listed["total"], 2, "{listed}");
    let eve = host.client().register("eve@example.com", "Reef").await;
    for answer in [eve.get(&path).await, eve.put(&path, &json!({"note": "x"})).await, eve.delete(&path).await] {
        answer.problem(404, "NOT_FOUND");
    }
    assert_eq!(eve.get(ALLOCATIONS).await.expect(200)["total"], 0);
    allocate(&eve, &own, 1.0, 0, 0).await.problem(400, "VALIDATION_ERROR");
    bob.delete(&path).await.problem(403, "FORBIDDEN");
    ada.delete(&path).await.done(204);
    ada.get(&path).await.problem(404, "NOT_FOUND");
    let task = json!({"userId": own, "hours": 1, "start": day(0), "end": day(0), "taskId": "nothing"});
    ada.post(&format!("{CAPACITY}/allocate"), &task).await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn of_writers_at_one_moment_only_as_many_get_the_hours_as_there_are() {
    let (_host, ada) = host_with_ada().await;
    let own = members::id(&ada);
    let answers = join_all((0..8).map(|_| allocate(&ada, &own, 3.0, 1, 1))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 409, 409, 409, 409, 409, 409]);
    let seen = week(&ada, &own, 0).await;
    assert_eq!((&seen["hours"]["allocated"], &seen["overallocationHours"]), (&json!(6.0), &json!(0.0)), "{seen}");
}

#[tokio::test]
async fn time_off_is_ones_own_and_a_leads_to_decide() {
    let (host, ada) = host_with_ada().await;
    let [bob, cem, dan] = [
        members::bring(&host, &ada, "bob@example.com", "Member").await,
        members::bring(&host, &ada, "cem@example.com", "Member").await,
        members::bring(&host, &ada, "dan@example.com", "Member").await,
    ];
    team(&ada, &cem, &[&bob]).await;
    let own = members::id(&bob);
    allocate(&bob, &own, 20.0, 0, 4).await.done(201);
    let other = json!({"userId": members::id(&cem), "startDate": day(0), "endDate": day(0)});
    bob.post(TIME_OFF, &other).await.problem(403, "FORBIDDEN");
    let body = json!({"startDate": day(2), "endDate": day(8), "kind": "sick", "note": "a cold", "status": "approved"});
    let asked = bob.post(TIME_OFF, &body).await.expect(201);
    assert_eq!((&asked["status"], &asked["userId"]), (&json!("requested"), &json!(own)), "{asked}");
    let path = format!("{TIME_OFF}/{}", text(&asked, "id"));
    assert_eq!(week(&dan, &own, 0).await["hours"]["timeOff"], 0.0, "nobody has said yes");
    // What is asked for is whose it is and their leads' to see; nobody decides on their own, and no stranger does.
    dan.get(&path).await.problem(404, "NOT_FOUND");
    assert_eq!(dan.get(TIME_OFF).await.expect(200)["total"], 0);
    assert_eq!(cem.get(&path).await.expect(200)["kind"], "sick");
    bob.post(&format!("{path}/approve"), &json!({})).await.problem(403, "FORBIDDEN");
    dan.post(&format!("{path}/approve"), &json!({})).await.problem(404, "NOT_FOUND");
    bob.put(&path, &json!({"endDate": day(4)})).await.done(200);
    cem.put(&path, &json!({"endDate": day(5)})).await.problem(403, "FORBIDDEN");
    let said = cem.post(&format!("{path}/approve"), &json!({})).await.expect(200);
    assert_eq!((&said["status"], &said["decidedBy"]), (&json!("approved"), &json!(members::id(&cem))), "{said}");
    cem.post(&format!("{path}/reject"), &json!({})).await.problem(409, "ILLEGAL_TRANSITION");
    bob.put(&path, &json!({"endDate": day(5)})).await.problem(409, "ILLEGAL_TRANSITION");
    // Everybody sees when, and only those it concerns why.
    let seen = dan.get(&path).await.expect(200);
    assert_eq!(
        (&seen["kind"], &seen["note"], &seen["endDate"]),
        (&Value::Null, &Value::Null, &json!(day(4))),
        "{seen}"
    );
    assert_eq!(dan.get(&format!("{TIME_OFF}?kind=sick")).await.expect(200)["total"], 0);
    for name in ["kind", "note", "origin"] {
        assert_eq!(dan.get(&format!("{TIME_OFF}?sortBy={name}")).await.faulty_fields(), ["sortBy"], "{name}");
    }
    assert_eq!(ada.get(&format!("{TIME_OFF}?sortBy=kind")).await.expect(200)["total"], 1);
    // Three of five days are gone: sixteen hours are left, and twenty are planned.
    let seen = week(&dan, &own, 0).await;
    assert_eq!((&seen["hours"]["total"], &seen["hours"]["timeOff"]), (&json!(16.0), &json!(24.0)), "{seen}");
    assert_eq!(seen["overallocationHours"], 4.0);
    assert_eq!(bob.get(&format!("{CAPACITY}/overallocations")).await.expect(200)["items"][0]["userId"], own);
    allocate(&bob, &own, 1.0, 4, 8).await.problem(409, "OVERALLOCATED");
    let body = json!({"userId": own, "allocatedHours": 1, "startDate": day(4), "endDate": day(8), "force": true});
    let warned = bob.post(ALLOCATIONS, &body).await.expect(201);
    assert_eq!(
        (&warned["warnings"][0]["code"], &warned["warnings"][0]["endDate"]),
        (&json!("TIME_OFF"), &json!(day(4)))
    );
    allocate(&bob, &own, 1.0, 3, 3).await.problem(409, "OVERALLOCATED");
    // The calendar has it too, until it is withdrawn.
    let absences = async || {
        let range = format!("from={}T00:00:00Z&to={}T00:00:00Z&userId={own}&type=pto", day(0), day(14));
        ada.get(&format!("/api/calendar/events?{range}")).await.expect(200)["total"].as_i64().unwrap_or_default()
    };
    eventually("the absence in the calendar", async || (absences().await == 1).then_some(())).await;
    bob.delete(&path).await.done(204);
    assert_eq!(week(&dan, &own, 0).await["hours"]["total"], 40.0);
    assert_eq!(bob.get(&format!("{CAPACITY}/overallocations")).await.expect(200)["total"], 0);
    eventually("the end of it in the calendar", async || (absences().await == 0).then_some(())).await;
    let eve = host.client().register("eve@example.com", "Reef").await;
    let wish = json!({"startDate": day(2), "endDate": day(8), "hoursPerDay": 2});
    let kept = text(&bob.post(TIME_OFF, &wish).await.expect(201), "id");
    for action in ["", "/approve", "/reject"] {
        let path = format!("{TIME_OFF}/{kept}{action}");
        let answer = if action.is_empty() { eve.get(&path).await } else { eve.post(&path, &json!({})).await };
        answer.problem(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn tasks_are_planned_by_themselves_and_private_ones_stay_private() {
    let (host, ada) = host_with_ada().await;
    let bob = members::bring(&host, &ada, "bob@example.com", "Member").await;
    let cem = members::bring(&host, &ada, "cem@example.com", "Member").await;
    let own = members::id(&bob);
    let project = plans::project(&ada, "Quay").await;
    let body = json!({"projectId": project, "title": "Weld", "assignedTo": own, "estimatedHours": 12,
        "dueDate": format!("{}T12:00:00Z", day(11)), "tags": ["steel"]});
    let task = text(&ada.post("/api/tasks", &body).await.expect(201), "id");
    let of_task = async |status: &str| {
        let page = bob.get(&format!("{ALLOCATIONS}?taskId={task}&status={status}")).await.expect(200);
        page["items"].as_array().cloned().unwrap_or_default()
    };
    let planned = eventually("what is planned for the task", async || of_task("planned").await.pop()).await;
    assert_eq!((&planned["allocatedHours"], &planned["userId"]), (&json!(12.0), &json!(own)), "{planned}");
    // Who else could do it: by its tags, its estimate, and until it is due.
    let question = json!({"taskId": task, "window": {"start": day(0)}, "userIds": [own]});
    let suggested = ada.post(&format!("{CAPACITY}/suggest"), &question).await.expect(200);
    assert_eq!((&suggested["hours"], &suggested["end"]), (&json!(12.0), &json!(day(11))), "{suggested}");
    assert_eq!(suggested["skills"], json!([{"skill": "steel", "level": 3}]));
    assert_eq!((&planned["endDate"], &planned["projectId"]), (&json!(day(11)), &json!(project)));
    // What a person plans for it counts instead.
    let own_plan = json!({"userId": own, "taskId": task, "hours": 6, "start": day(0), "end": day(1)});
    let told = bob.post(&format!("{CAPACITY}/allocate"), &own_plan).await.expect(201);
    assert_eq!(told["projectId"], project.as_str());
    let status = |status: &str| json!({ "status": status });
    let path = format!("/api/tasks/{task}/status");
    ada.put(&path, &status("in_progress")).await.done(200);
    let active = eventually("work on the task", async || of_task("active").await.pop()).await;
    assert_eq!((&active["id"], of_task("planned").await.len()), (&told["id"], 0), "{active}");
    for next in ["in_review", "completed"] {
        ada.put(&path, &status(next)).await.done(200);
    }
    let done = eventually("the end of the task", async || of_task("completed").await.pop()).await;
    assert_eq!(done["id"], told["id"]);
    assert_eq!(week(&bob, &own, 0).await["hours"]["allocated"], 0.0, "it was done before its days began");
    // Given to somebody else it is theirs, given back it is planned again, and given up it takes no time.
    let body = json!({"projectId": project, "title": "Paint", "assignedTo": own, "estimatedHours": 8});
    let paint = format!("/api/tasks/{}", text(&ada.post("/api/tasks", &body).await.expect(201), "id"));
    let others = members::id(&cem);
    let standing = async |user: &str| {
        let (_, task) = paint.rsplit_once('/').unwrap_or_default();
        let page = ada.get(&format!("{ALLOCATIONS}?taskId={task}&userId={user}")).await.expect(200);
        page["items"].get(0).map(|row| text(row, "status")).unwrap_or_default()
    };
    for (given_to, bobs, cems) in
        [(&own, "planned", ""), (&others, "cancelled", "planned"), (&own, "planned", "cancelled")]
    {
        ada.put(&paint, &json!({"assignedTo": given_to})).await.done(200);
        eventually("who has it", async || {
            (standing(&own).await == bobs && standing(&others).await == cems).then_some(())
        })
        .await;
    }
    ada.put(&format!("{paint}/status"), &status("cancelled")).await.done(200);
    eventually("its end", async || (standing(&own).await == "cancelled").then_some(())).await;
    // Of a private project others learn only that somebody has something to do.
    let body = json!({"name": "Vault", "visibility": "private"});
    let vault = text(&ada.post("/api/projects", &body).await.expect(201), "id");
    let secret = json!({"userId": own, "projectId": vault, "allocatedHours": 10, "startDate": day(0), "endDate": day(4), "note": "gold"});
    let secret = text(&ada.post(ALLOCATIONS, &secret).await.expect(201), "id");
    let path = format!("{ALLOCATIONS}/{secret}");
    assert_eq!(ada.get(&path).await.expect(200)["note"], "gold");
    let seen = cem.get(&path).await.expect(200);
    assert_eq!(
        (&seen["projectId"], &seen["note"], &seen["allocatedHours"]),
        (&Value::Null, &Value::Null, &json!(10.0))
    );
    assert_eq!(cem.get(&format!("{ALLOCATIONS}?projectId={vault}")).await.expect(200)["total"], 0);
    assert!(!cem.get(&format!("{ALLOCATIONS}?userId={own}")).await.text().contains("gold"));
    for name in ["projectId", "taskId", "note", "origin"] {
        assert_eq!(cem.get(&format!("{ALLOCATIONS}?sortBy={name}")).await.faulty_fields(), ["sortBy"], "{name}");
    }
    // A key that opens no projects shows nothing of them, whatever its owner has just seen.
    let key = json!({"name": "Planner", "permissions": ["capacity.*"]});
    let key = text(&ada.post("/api/users/me/api-keys", &key).await.expect(201), "key");
    assert_eq!(ada.get(&path).await.expect(200)["note"], "gold");
    assert_eq!(host.client().with_token(&key).get(&path).await.expect(200)["note"], Value::Null);
    // What follows a task of it names the task where it comes from.
    let body = json!({"projectId": vault, "title": "Melt", "assignedTo": members::id(&ada), "estimatedHours": 2});
    let melting = text(&ada.post("/api/tasks", &body).await.expect(201), "id");
    let of_ada = format!("{ALLOCATIONS}?userId={}", members::id(&ada));
    let follows = eventually("what is planned for the private task", async || {
        ada.get(&of_ada).await.expect(200)["items"].get(0).cloned()
    })
    .await;
    assert!(text(&follows, "origin").contains(&melting), "{follows}");
    let hidden = cem.get(&of_ada).await;
    assert_eq!((&hidden.expect(200)["total"], hidden.text().contains(&melting)), (&json!(1), false));
    // Whose time it is may move it, and learns nothing by that.
    let moved = bob.put(&path, &json!({"endDate": day(5)})).await.expect(200);
    assert_eq!((&moved["projectId"], &moved["endDate"]), (&Value::Null, &json!(day(5))), "{moved}");
    cem.put(&path, &json!({"note": "mine"})).await.problem(403, "FORBIDDEN");
    let mine = json!({"userId": own, "projectId": vault, "allocatedHours": 1, "startDate": day(0), "endDate": day(0)});
    cem.post(ALLOCATIONS, &mine).await.problem(404, "NOT_FOUND");
    let by_project = format!("{CAPACITY}/utilization?groupBy=project&from={}&to={}", day(0), day(6));
    let groups = ada.get(&by_project).await.expect(200);
    assert_eq!(
        (&groups["groups"][0]["key"], &groups["groups"][0]["hours"]["allocated"]),
        (&json!(vault), &json!(10.0)),
        "{groups}"
    );
    let groups = cem.get(&by_project).await.expect(200);
    assert_eq!((&groups["groups"][0]["key"], &groups["total"]["allocated"]), (&Value::Null, &json!(10.0)), "{groups}");
}
