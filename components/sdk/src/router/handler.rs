//! Functions as handlers: up to five arguments that are [`FromRequest`], one [`Answer`].

use super::Route;
use crate::{
    http::{Answer, FromRequest, Request, Response},
    problem::Result,
};

/// A function that answers requests. Implemented for every `Fn` of arguments that can be taken from a request.
///
/// ```
/// use berth_sdk::{http::{Answer, Request}, router::Handler};
/// fn hello() -> String { "hello".into() }
/// fn status<A>(handler: impl Handler<A>) -> u16 { handler.call(&mut Request::new("GET", "/")).unwrap().status }
/// assert_eq!(status(hello), 200);
/// ```
pub trait Handler<Arguments>: Send + Sync + 'static {
    /// Answers.
    fn call(&self, request: &mut Request) -> Result<Response>;
    /// Says what it takes and answers.
    fn describe(&self, route: &mut Route);
}

macro_rules! handlers {
    ($(($($argument:ident),*))*) => {$(
        impl<F, R, $($argument),*> Handler<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R + Send + Sync + 'static,
            R: Answer,
            $($argument: FromRequest,)*
        {
            #[allow(non_snake_case, unused_variables, reason = "one pattern for every number of arguments")]
            fn call(&self, request: &mut Request) -> Result<Response> {
                $(let $argument = $argument::from_request(request)?;)*
                self($($argument),*).into_response()
            }
            fn describe(&self, route: &mut Route) {
                $($argument::describe(route);)*
                R::describe(route);
            }
        }
    )*};
}

handlers! { () (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) }
