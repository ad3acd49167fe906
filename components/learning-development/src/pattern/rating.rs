//! Ratings: one for each person and pattern, which they may change.

use berth_sdk::prelude::*;

use super::{hold, sight::seen};

/// The body of `POST /api/patterns/{id}/rate`.
#[data]
pub struct Rating {
    /// 1 to 5.
    #[field(min = 1, max = 5)]
    rating: i64,
}

/// What a pattern is thought of.
#[data]
pub struct Rated {
    pattern_id: Id,
    /// The caller's own.
    rating: i64,
    rating_sum: i64,
    rating_count: i64,
    average: f64,
}

/// `POST /api/patterns/{id}/rate`: again it takes the place of the one before.
pub fn rate(Params(id): Params<Id>, Json(input): Json<Rating>) -> Result<Json<Rated>> {
    seen(&id)?;
    let user_id = auth::user_id()?;
    database::transaction(|transaction| {
        // Under the pattern's lock sum and count always are those of the rows.
        let row = hold(transaction, &id)?;
        let own = params![&id, &user_id];
        let before = transaction
            .query_one("SELECT rating FROM pattern_ratings WHERE pattern_id = $1 AND user_id = $2", own)?
            .map(|row| row.get::<i64>("rating"))
            .transpose()?;
        transaction.execute(
            "INSERT INTO pattern_ratings (id, organization_id, created_by, created_at, updated_at, version, pattern_id, \
             user_id, rating) VALUES ($1, $2, $3, $4, $4, 1, $5, $3, $6) ON CONFLICT (pattern_id, user_id) DO UPDATE SET \
             rating = excluded.rating, updated_at = excluded.updated_at, version = pattern_ratings.version + 1",
            params![Id::new(), &row.organization_id, &user_id, clock::now(), &id, input.rating],
        )?;
        let (sum, count) = moved(row.rating_sum, row.rating_count, before, input.rating);
        transaction.execute(
            "UPDATE pattern_patterns SET rating_sum = $2, rating_count = $3 WHERE id = $1",
            params![&id, sum, count],
        )?;
        Ok(Json(Rated {
            pattern_id: id,
            rating: input.rating,
            rating_sum: sum,
            rating_count: count,
            average: average(sum, count),
        }))
    })
}

/// Sum and count after a rating took the place of the one before it, if there was one.
fn moved(sum: i64, count: i64, before: Option<i64>, rating: i64) -> (i64, i64) {
    (sum - before.unwrap_or(0) + rating, count + i64::from(before.is_none()))
}

fn average(sum: i64, count: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "ratings of one pattern")]
    if count == 0 { 0.0 } else { (sum as f64 / count as f64 * 100.0).round() / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_rating_takes_the_place_of_the_first() {
        let (sum, count) = moved(0, 0, None, 5);
        assert_eq!((sum, count), (5, 1));
        let (sum, count) = moved(sum, count, None, 2);
        assert_eq!(average(sum, count).to_bits(), 3.5_f64.to_bits());
        assert_eq!(moved(sum, count, Some(5), 1), (3, 2));
    }
}
