//! The attribute macros of `berth-sdk`: `data`, `choice` and `entity`. Use them through the SDK, which documents them
//! with examples that run.
//!
//! They write what can be read off a declaration (derives, names, field tables) and never behaviour: that is plain
//! code in the SDK.

mod choice;
mod entity;
mod field;
mod structure;

use proc_macro::TokenStream;

/// A record of a request or an answer: JSON in camel case, JSON Schema, and tidying of its fields.
#[proc_macro_attribute]
pub fn data(attributes: TokenStream, item: TokenStream) -> TokenStream {
    finish(structure::expand(attributes.into(), item.into()))
}

/// A closed set of texts: an enum whose variants are written in snake case in JSON and in the database.
#[proc_macro_attribute]
pub fn choice(attributes: TokenStream, item: TokenStream) -> TokenStream {
    finish(choice::expand(attributes.into(), item.into()))
}

/// A record that lives in a table of the plugin.
#[proc_macro_attribute]
pub fn entity(attributes: TokenStream, item: TokenStream) -> TokenStream {
    finish(entity::expand(attributes.into(), item.into()))
}

fn finish(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(|error| error.to_compile_error()).into()
}
