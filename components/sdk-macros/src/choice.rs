//! `#[choice]`: an enum of unit variants as a closed set of texts.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, spanned::Spanned};

use crate::field::snake_case;

/// Expands `#[choice]`, `#[choice(upper)]` for texts such as `HEALTHY`, or `#[choice(kebab)]` for `api-design`.
pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let write: fn(String) -> String = match attributes.to_string().as_str() {
        "" => |snake| snake,
        "upper" => |snake| snake.to_uppercase(),
        "kebab" => |snake| snake.replace('_', "-"),
        _ => return Err(syn::Error::new(attributes.span(), "`choice` takes nothing, `upper` or `kebab`")),
    };
    let mut input: DeriveInput = syn::parse2(item)?;
    let span = input.span();
    let Data::Enum(choices) = &mut input.data else {
        return Err(syn::Error::new(span, "an enum is needed here"));
    };
    let mut names = Vec::new();
    let mut texts = Vec::new();
    for variant in &mut choices.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(syn::Error::new(variant.span(), "a choice has no content"));
        }
        let text = write(snake_case(&variant.ident.to_string()));
        variant.attrs.push(syn::parse_quote!(#[serde(rename = #text)]));
        names.push(variant.ident.clone());
        texts.push(text);
    }
    input.attrs.push(syn::parse_quote! {
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash,
            ::berth_sdk::serde::Serialize, ::berth_sdk::serde::Deserialize, ::berth_sdk::schemars::JsonSchema
        )]
    });
    input.attrs.push(syn::parse_quote!(#[serde(crate = "::berth_sdk::serde")]));
    input.attrs.push(syn::parse_quote!(#[schemars(crate = "::berth_sdk::schemars")]));
    let owner = &input.ident;
    Ok(quote! {
        #input
        impl #owner {
            /// Every choice, in the order of declaration.
            pub const ALL: &'static [Self] = &[#(Self::#names),*];
            /// The text in JSON and in the database.
            pub const fn as_str(self) -> &'static str { match self { #(Self::#names => #texts),* } }
            /// The choice of this text.
            pub fn parse(text: &str) -> ::core::option::Option<Self> {
                match text { #(#texts => ::core::option::Option::Some(Self::#names),)* _ => ::core::option::Option::None }
            }
        }
        impl ::core::fmt::Display for #owner {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
        impl ::core::convert::From<#owner> for ::berth_sdk::database::Value {
            fn from(choice: #owner) -> Self { Self::Text(choice.as_str().into()) }
        }
        impl ::berth_sdk::database::FromValue for #owner {
            fn from_value(value: ::berth_sdk::database::Value) -> ::core::option::Option<Self> {
                match value { ::berth_sdk::database::Value::Text(text) => Self::parse(&text), _ => ::core::option::Option::None }
            }
        }
        impl ::berth_sdk::entity::Column for #owner {
            const KIND: ::berth_sdk::entity::Kind = ::berth_sdk::entity::Kind::Text;
            const FILTER: bool = true;
            const CHOICES: &'static [&'static str] = &[#(#texts),*];
        }
        impl ::berth_sdk::validate::Tidy for #owner {}
    })
}
