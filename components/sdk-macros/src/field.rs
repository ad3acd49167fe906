//! Reads the `#[field(…)]` attributes of a struct's fields.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Expr, Field, Ident, LitStr, Type, spanned::Spanned};

/// One field with what its `#[field(…)]` says.
pub(crate) struct FieldPlan {
    pub ident: Ident,
    pub kind: Type,
    /// The name in JSON.
    pub name: String,
    /// The name in SQL.
    pub column: String,
    pub min: Option<Expr>,
    pub max: Option<Expr>,
    pub format: Option<LitStr>,
    /// For the API's document only: what a check of the service's own wants.
    pub pattern: Option<LitStr>,
    pub parent: Option<syn::Path>,
    pub plain: bool,
    pub raw: bool,
    pub readonly: bool,
    pub immutable: bool,
    pub filter: bool,
    pub hidden: bool,
    pub default: Option<DefaultValue>,
}

/// What an absent field becomes.
pub(crate) enum DefaultValue {
    /// `Default::default()` of its type.
    Standard,
    /// An expression.
    Expression(Expr),
}

impl FieldPlan {
    /// Reads a field and takes its `#[field(…)]` attributes off.
    pub(crate) fn take(field: &mut Field) -> syn::Result<Self> {
        let span = field.span();
        let ident = field.ident.clone().ok_or_else(|| syn::Error::new(span, "a named field is needed here"))?;
        let column = ident.to_string().trim_start_matches("r#").to_string();
        let mut plan = Self {
            name: camel_case(&column),
            column,
            kind: field.ty.clone(),
            ident,
            min: None,
            max: None,
            format: None,
            pattern: None,
            parent: None,
            plain: false,
            raw: false,
            readonly: false,
            immutable: false,
            filter: false,
            hidden: false,
            default: None,
        };
        let (mine, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut field.attrs).into_iter().partition(|attribute| attribute.path().is_ident("field"));
        field.attrs = others;
        for attribute in mine {
            attribute.parse_nested_meta(|meta| plan.read(&meta))?;
        }
        Ok(plan)
    }

    /// The `Rule` of this field, as an expression.
    pub(crate) fn rule(&self) -> TokenStream {
        let bound = |bound: &Option<Expr>| match bound {
            Some(value) => quote!(::core::option::Option::Some((#value) as f64)),
            None => quote!(::core::option::Option::None),
        };
        let (min, max) = (bound(&self.min), bound(&self.max));
        let (plain, raw) = (self.plain, self.raw);
        let format = match &self.format {
            Some(format) => quote!(::core::option::Option::Some(#format)),
            None => quote!(::core::option::Option::None),
        };
        quote!(::berth_sdk::validate::Rule { min: #min, max: #max, plain: #plain, raw: #raw, format: #format })
    }

    /// Whether its text must have something left when it was trimmed and cleaned.
    pub(crate) fn needs_a_letter(&self) -> bool {
        let Some(Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(min), .. })) = &self.min else { return false };
        !self.raw && min.base10_parse::<u64>().is_ok_and(|min| min > 0)
    }

    /// What is left of a text: no space, no control character, and in a plain one no angle bracket.
    pub(crate) fn letter(&self) -> &'static str {
        if self.plain { r"[^\s<>\x00-\x1f\x7f-\x9f]" } else { r"[^\s\x00-\x1f\x7f-\x9f]" }
    }

    fn read(&mut self, meta: &syn::meta::ParseNestedMeta<'_>) -> syn::Result<()> {
        let Some(name) = meta.path.get_ident().map(ToString::to_string) else {
            return Err(meta.error("a plain word is needed here"));
        };
        match name.as_str() {
            "min" => self.min = Some(meta.value()?.parse()?),
            "max" => self.max = Some(meta.value()?.parse()?),
            "format" => self.format = Some(meta.value()?.parse()?),
            "pattern" => self.pattern = Some(meta.value()?.parse()?),
            "parent" => self.parent = Some(meta.value()?.parse()?),
            "plain" => self.plain = true,
            "raw" => self.raw = true,
            "readonly" => self.readonly = true,
            "immutable" => self.immutable = true,
            "filter" => self.filter = true,
            "hidden" => self.hidden = true,
            "default" => {
                self.default = Some(if meta.input.peek(syn::Token![=]) {
                    DefaultValue::Expression(meta.value()?.parse()?)
                } else {
                    DefaultValue::Standard
                });
            }
            _ => {
                return Err(meta.error(
                    "unknown word; known are min, max, format, pattern, parent, plain, raw, readonly, immutable, filter, hidden, default",
                ));
            }
        }
        Ok(())
    }
}

/// `due_date` → `dueDate`.
pub(crate) fn camel_case(snake: &str) -> String {
    let mut camel = String::with_capacity(snake.len());
    let mut upper = false;
    for letter in snake.chars() {
        if letter == '_' {
            upper = !camel.is_empty();
        } else if upper {
            camel.extend(letter.to_uppercase());
            upper = false;
        } else {
            camel.push(letter);
        }
    }
    camel
}

/// `PlanStep` → `plan_step`.
pub(crate) fn snake_case(pascal: &str) -> String {
    let mut snake = String::with_capacity(pascal.len() + 4);
    for (index, letter) in pascal.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::{camel_case, snake_case};

    #[test]
    fn names_change_their_case() {
        assert_eq!(camel_case("due_date"), "dueDate");
        assert_eq!(camel_case("id"), "id");
        assert_eq!(camel_case("price_per_1m_micro"), "pricePer1mMicro");
        assert_eq!(snake_case("PlanStep"), "plan_step");
        assert_eq!(snake_case("ToDo"), "to_do");
    }
}
