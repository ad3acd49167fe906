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
        field.attrs.extend(schema_words(&plan));
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

/// What the rule of a field says in JSON Schema. A bound is written for texts, lists and numbers alike: schemars keeps
/// what fits the type.
fn schema_words(plan: &FieldPlan) -> Vec<syn::Attribute> {
    let is_email = plan.format.as_ref().is_some_and(|format| format.value() == "email");
    let longest: syn::Expr = syn::parse_quote!(254);
    let max = if is_email { Some(&longest) } else { plan.max.as_ref() };
    let bounds = match (plan.min.as_ref(), max) {
        (Some(min), Some(max)) => Some(quote!(min = #min, max = #max)),
        (None, Some(max)) => Some(quote!(max = #max)),
        (Some(min), None) => Some(quote!(min = #min)),
        (None, None) => None,
    };
    let mut words: Vec<syn::Attribute> = Vec::new();
    if let Some(bounds) = bounds {
        words.push(syn::parse_quote!(#[schemars(length(#bounds), range(#bounds))]));
    }
    let kind = &plan.kind;
    let kind = quote!(#kind).to_string().replace(' ', "");
    let is_list = match kind.as_str() {
        "String" | "Option<String>" => false,
        "Vec<String>" | "Option<Vec<String>>" => true,
        _ => return words,
    };
    let format = plan.format.as_ref().map(syn::LitStr::value);
    let form = match (&plan.pattern, format.as_deref()) {
        (Some(pattern), _) => Form { pattern: pattern.value(), example: None },
        (None, Some(name)) => match text_form(name) {
            Some((pattern, example)) => Form { pattern: pattern.to_owned(), example },
            // One that the document names, and the service checks by itself.
            None if !is_list => {
                words.push(syn::parse_quote!(#[schemars(extend("format" = #name))]));
                return words;
            }
            None => return words,
        },
        (None, None) if plan.needs_a_letter() && !is_list => Form { pattern: plan.letter().to_owned(), example: None },
        _ => return words,
    };
    let Form { pattern, example } = form;
    words.push(match is_list {
        true => syn::parse_quote!(#[schemars(inner(regex(pattern = #pattern)))]),
        false => syn::parse_quote!(#[schemars(regex(pattern = #pattern))]),
    });
    if let (Some(example), false) = (example, is_list) {
        words.push(syn::parse_quote!(#[schemars(extend("example" = #example))]));
    }
    words
}

/// How texts look, and one of them where a random one would say little.
struct Form {
    pattern: String,
    example: Option<&'static str>,
}

/// The formats of `#[field(format = "…")]` that the SDK checks, which is a little stricter about lengths.
fn text_form(name: &str) -> Option<(&'static str, Option<&'static str>)> {
    Some(match name {
        "email" => (
            r"^[^\s@\x00-\x1f\x7f-\x9f]{1,64}@[^\s@.\-]([^\s@.]*[^\s@.\-])?(\.[^\s@.\-]([^\s@.]*[^\s@.\-])?)+$",
            Some("ada@example.com"),
        ),
        "url" => {
            (r"^https?://[^\s/?#@\x00-\x1f\x7f-\x9f]+([/?#][^\s\x00-\x1f\x7f-\x9f]*)?$", Some("https://example.com/"))
        }
        "slug" => ("^[a-z0-9]+(-[a-z0-9]+)*$", None),
        "id" => ("^[A-Za-z0-9_-]{1,64}$", None),
        _ => return None,
    })
}
