//! Names that appear in paths, and the pages of lists.

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, ApiResult};
use crate::store::Page;

/// A name that can be written into a path: how [`checked_name`] is told in the document.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9._:-]{1,128}$")]
#[expect(
    dead_code,
    reason = "handlers take a string and answer for it with the field's name"
)]
pub struct Name(String);

/// The digest of bytes or of a script, as the document tells it.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^sha256:[0-9a-f]{64}$")]
#[expect(dead_code, reason = "the artifact store reads digests itself")]
pub struct Digest(String);

/// Refuses a name that could not be written into a path.
pub fn checked_name(field: &str, name: String) -> ApiResult<String> {
    let fits = !name.is_empty()
        && name.len() <= 128
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    if fits {
        return Ok(name);
    }
    let what = "must be 1 to 128 of the characters A–Z a–z 0–9 . _ : -";
    Err(ApiError::refused("invalid_name", format!("`{field}` {what}")).with("field", field))
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to 500; 100 if not said.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u64>,
}

impl PageQuery {
    /// The page as the store knows it.
    pub fn page(&self) -> ApiResult<Page<'_>> {
        let limit = self.limit.unwrap_or(100);
        if !(1..=500).contains(&limit) {
            return Err(ApiError::malformed(
                "malformed_query",
                "`limit` must be 1 to 500",
            ));
        }
        Ok(Page {
            after: self.after.as_deref(),
            limit,
        })
    }

    /// `next` of this page: the last id, if the page is full.
    pub fn next<'a>(page: Page<'_>, count: usize, last: Option<&'a str>) -> Option<&'a str> {
        last.filter(|_| count as u64 == page.limit)
    }
}
