//! `#[data]`: derives, JSON names, defaults, and the tidying of every field.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Fields, spanned::Spanned};

use crate::field::{DefaultValue, FieldPlan};

/// Expands `#[data]`.
pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !attributes.is_empty() {
        return Err(syn::Error::new(attributes.span(), "`data` takes no arguments"));
    }
    let mut input: DeriveInput = syn::parse2(item)?;
    let (plans, defaults) = prepare(&mut input)?;
    let tidy = tidy(&input, &plans);
    Ok(quote!(#input #defaults #tidy))
}

/// Adds the derives and defaults to the struct and returns its fields and the functions that make the defaults.
pub(crate) fn prepare(input: &mut DeriveInput) -> syn::Result<(Vec<FieldPlan>, TokenStream)> {
    let owner = input.ident.clone();
    let span = input.span();
    let Data::Struct(structure) = &mut input.data else {
        return Err(syn::Error::new(span, "a struct with named fields is needed here"));
    };
    let Fields::Named(fields) = &mut structure.fields else {
        return Err(syn::Error::new(span, "a struct with named fields is needed here"));
    };
    let mut plans = Vec::new();
    let mut defaults = TokenStream::new();
    for field in &mut fields.named {
        let plan = FieldPlan::take(field)?;
        let name = &plan.name;
        field.attrs.push(syn::parse_quote!(#[serde(rename = #name)]));
        match &plan.default {
            Some(DefaultValue::Standard) => field.attrs.push(syn::parse_quote!(#[serde(default)])),
            Some(DefaultValue::Expression(value)) => {
                let function = format_ident!("__default_{}_{}", owner.to_string().to_lowercase(), plan.column);
                let path = function.to_string();
                let kind = &plan.kind;
                field.attrs.push(syn::parse_quote!(#[serde(default = #path)]));
                defaults.extend(quote! {
                    #[doc(hidden)]
                    #[allow(non_snake_case, clippy::useless_conversion)]
                    fn #function() -> #kind { ::core::convert::Into::into(#value) }
                });
            }
            None => {}
        }
        if let Some(schema) = schema_bounds(&plan) {
            field.attrs.push(schema);
        }
        plans.push(plan);
    }
    input.attrs.push(syn::parse_quote! {
        #[derive(
            Debug, Clone, PartialEq,
            ::berth_sdk::serde::Serialize, ::berth_sdk::serde::Deserialize, ::berth_sdk::schemars::JsonSchema
        )]
    });
    input.attrs.push(syn::parse_quote!(#[serde(crate = "::berth_sdk::serde")]));
    input.attrs.push(syn::parse_quote!(#[schemars(crate = "::berth_sdk::schemars")]));
    Ok((plans, defaults))
}

/// `impl Tidy`: trims and checks field by field, each fault under its path.
pub(crate) fn tidy(input: &DeriveInput, plans: &[FieldPlan]) -> TokenStream {
    let owner = &input.ident;
    let steps = plans.iter().map(|plan| {
        let (ident, name, rule) = (&plan.ident, &plan.name, plan.rule());
        quote! {
            ::berth_sdk::validate::Tidy::tidy(&mut self.#ident, &#rule, &path.member(#name), faults);
        }
    });
    quote! {
        impl ::berth_sdk::validate::Tidy for #owner {
            fn tidy(
                &mut self,
                _rule: &::berth_sdk::validate::Rule,
                path: &::berth_sdk::validate::Path<'_>,
                faults: &mut ::berth_sdk::validate::Faults,
            ) {
                #(#steps)*
                let _ = (path, faults);
            }
        }
    }
}

/// The bounds as JSON Schema, where the type is a text.
fn schema_bounds(plan: &FieldPlan) -> Option<syn::Attribute> {
    let kind = &plan.kind;
    let text = quote!(#kind).to_string().replace(' ', "");
    let is_text = matches!(text.as_str(), "String" | "Option<String>");
    let is_number = matches!(
        text.as_str(),
        "i64" | "i32" | "u32" | "u64" | "f64" | "Option<i64>" | "Option<i32>" | "Option<u32>" | "Option<f64>"
    );
    let (min, max) = (&plan.min, &plan.max);
    match (is_text, is_number, min, max) {
        (true, _, Some(min), Some(max)) => Some(syn::parse_quote!(#[schemars(length(min = #min, max = #max))])),
        (true, _, None, Some(max)) => Some(syn::parse_quote!(#[schemars(length(max = #max))])),
        (true, _, Some(min), None) => Some(syn::parse_quote!(#[schemars(length(min = #min))])),
        (_, true, Some(min), Some(max)) => Some(syn::parse_quote!(#[schemars(range(min = #min, max = #max))])),
        (_, true, None, Some(max)) => Some(syn::parse_quote!(#[schemars(range(max = #max))])),
        (_, true, Some(min), None) => Some(syn::parse_quote!(#[schemars(range(min = #min))])),
        _ => None,
    }
}
