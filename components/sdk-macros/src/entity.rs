//! `#[entity(…)]`: everything `#[data]` does, and the table of the entity's fields.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, LitStr, parse::Parser};

use crate::{field::snake_case, structure};

#[derive(Default)]
struct Options {
    table: Option<LitStr>,
    name: Option<LitStr>,
    created: Option<LitStr>,
    updated: Option<LitStr>,
    deleted: Option<LitStr>,
    sort: Option<LitStr>,
    soft_delete: bool,
    global: bool,
}

/// Expands `#[entity(table = "…", …)]`.
pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options = read(attributes)?;
    let mut input: DeriveInput = syn::parse2(item)?;
    let Some(table) = options.table else {
        return Err(syn::Error::new_spanned(&input.ident, "`table = \"…\"` is needed"));
    };
    let (plans, defaults) = structure::prepare(&mut input)?;
    let tidy = structure::tidy(&input, &plans);
    let owner = &input.ident;
    let name = options.name.map_or_else(|| snake_case(&owner.to_string()).replace('_', " "), |name| name.value());
    let optional = |text: &Option<LitStr>| match text {
        Some(text) => quote!(::core::option::Option::Some(#text)),
        None => quote!(::core::option::Option::None),
    };
    let (created, updated, deleted) =
        (optional(&options.created), optional(&options.updated), optional(&options.deleted));
    let sort = options.sort.map_or_else(|| "-createdAt".to_string(), |sort| sort.value());
    let (soft_delete, global) = (options.soft_delete, options.global);
    let token = if plans.iter().any(|plan| plan.column == "version") { "lock_version" } else { "version" };
    let fields = plans.iter().map(|plan| {
        let (json, column, kind, rule) = (&plan.name, &plan.column, &plan.kind, plan.rule());
        let (filter, hidden) = (plan.filter, plan.hidden);
        let parent = match &plan.parent {
            Some(parent) => {
                quote!(::core::option::Option::Some(|| <#parent as ::berth_sdk::entity::Entity>::DEFINITION))
            }
            None => quote!(::core::option::Option::None),
        };
        let access = if plan.readonly {
            quote!(Readonly)
        } else if plan.immutable {
            quote!(Immutable)
        } else {
            quote!(Open)
        };
        quote! {
            ::berth_sdk::entity::Field {
                name: #json,
                column: #column,
                kind: <#kind as ::berth_sdk::entity::Column>::KIND,
                is_optional: <#kind as ::berth_sdk::entity::Column>::OPTIONAL,
                can_filter: #filter || <#kind as ::berth_sdk::entity::Column>::FILTER,
                choices: <#kind as ::berth_sdk::entity::Column>::CHOICES,
                is_hidden: #hidden,
                access: ::berth_sdk::entity::Access::#access,
                parent: #parent,
                rule: #rule,
            }
        }
    });
    Ok(quote! {
        #input
        #defaults
        #tidy
        impl ::berth_sdk::entity::Entity for #owner {
            const DEFINITION: &'static ::berth_sdk::entity::Definition = &::berth_sdk::entity::Definition {
                name: #name,
                table: #table,
                fields: &[#(#fields),*],
                created: #created,
                updated: #updated,
                deleted: #deleted,
                sort: #sort,
                soft_delete: #soft_delete,
                global: #global,
                token: #token,
                scope: || <#owner as ::berth_sdk::entity::Rules>::scope(),
            };
            fn statements() -> &'static ::berth_sdk::entity::Statements {
                static STATEMENTS: ::std::sync::OnceLock<::berth_sdk::entity::Statements> = ::std::sync::OnceLock::new();
                STATEMENTS.get_or_init(|| {
                    ::berth_sdk::entity::Statements::new(<#owner as ::berth_sdk::entity::Entity>::DEFINITION)
                })
            }
        }
    })
}

fn read(attributes: TokenStream) -> syn::Result<Options> {
    let mut options = Options::default();
    let parser = syn::meta::parser(|meta| {
        let Some(name) = meta.path.get_ident().map(ToString::to_string) else {
            return Err(meta.error("a plain word is needed here"));
        };
        match name.as_str() {
            "table" => options.table = Some(meta.value()?.parse()?),
            "name" => options.name = Some(meta.value()?.parse()?),
            "created" => options.created = Some(meta.value()?.parse()?),
            "updated" => options.updated = Some(meta.value()?.parse()?),
            "deleted" => options.deleted = Some(meta.value()?.parse()?),
            "sort" => options.sort = Some(meta.value()?.parse()?),
            "soft_delete" => options.soft_delete = true,
            "global" => options.global = true,
            _ => {
                return Err(meta.error(
                    "unknown word; known are table, name, created, updated, deleted, sort, soft_delete, global",
                ));
            }
        }
        Ok(())
    });
    parser.parse2(attributes)?;
    Ok(options)
}
