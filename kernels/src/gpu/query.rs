//! What a device is asked to do with rows: filter them, compute keys and arguments, aggregate.
//!
//! Also where things lie in a row's record, which `project` writes and `aggregate` reads: the key
//! (a word that says which of its columns are there, then their words), a word that says which
//! arguments are there, the arguments.

use arrow::datatypes::{DataType, Field};

use super::form::Form;
use super::states::States;
use super::support;
use crate::cpu::aggregate::Call;
use crate::expr::{Expr, ExprKind};

/// Keys and arguments are told present by a bit each.
const COLUMNS_MAX: usize = 32;

/// A column that comes from the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub data_type: DataType,
    /// Text as a `UInt32Array` of ids, 0 for NULL.
    pub is_ids: bool,
}

impl Input {
    pub(super) fn form(&self) -> Form {
        if self.is_ids { Form::Id } else { Form::of(&self.data_type) }
    }
}

/// Expressions count the inputs from 0 on.
#[derive(Clone, Debug)]
pub struct Query {
    pub inputs: Vec<Input>,
    /// Asked one after the other; at most two.
    pub filters: Vec<Expr>,
    pub keys: Vec<Expr>,
    /// The key that is the start of a window, where rows fall into several.
    pub window: Option<usize>,
    pub key_fields: Vec<Field>,
    pub arguments: Vec<Expr>,
    pub calls: Vec<Call>,
}

/// A node that the device cannot run, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub node: String,
    pub reason: String,
}

impl Query {
    /// What of it the device cannot do; empty: all of it can be done.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut refuse = |node: String, reason: String| refusals.push(Refusal { node, reason });
        for filter in &self.filters {
            if let Some(reason) = support::refusal(filter) {
                refuse("filter".to_owned(), reason);
            }
        }
        for (key, field) in self.keys.iter().zip(&self.key_fields) {
            let is_id = matches!(key.kind, ExprKind::Column(at) if self.inputs[at].is_ids);
            if let Some(reason) = support::refusal(key).filter(|_| !is_id) {
                refuse(format!("group key {:?}", field.name()), reason);
            }
        }
        for call in &self.calls {
            let node = || format!("aggregate {:?}", call.spec.name);
            if let Some(reason) = States::refusal(&call.spec) {
                refuse(node(), reason);
            }
            for argument in call.argument.iter().chain(&call.filter) {
                let argument = &self.arguments[*argument];
                let is_column = matches!(argument.kind, ExprKind::Column(_));
                if let Some(reason) = support::refusal(argument).filter(|_| !is_column) {
                    refuse(node(), reason);
                }
            }
        }
        let whole = self.filters.iter().chain(&self.keys).chain(&self.arguments);
        let nodes = whole.map(support::nodes).sum::<usize>();
        if nodes > support::NODES_MAX {
            let reason = format!("{nodes} operations are more than one shader takes");
            refuse("query".to_owned(), reason);
        }
        for (what, count) in [("group keys", self.keys.len()), ("arguments", self.arguments.len())]
        {
            if count > COLUMNS_MAX {
                refuse("query".to_owned(), format!("{count} {what}, at most {COLUMNS_MAX}"));
            }
        }
        refusals
    }

    fn form_of(&self, expr: &Expr) -> Form {
        match expr.kind {
            ExprKind::Column(column) => self.inputs[column].form(),
            _ => Form::of(&expr.data_type),
        }
    }
}

/// Where a row's key and arguments lie in its record, in words.
#[derive(Clone, Debug)]
pub(super) struct Records {
    pub keys: Vec<Slot>,
    /// Words of the key, its first one included.
    pub key_words: usize,
    pub arguments: Vec<Slot>,
    pub words: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub form: Form,
    pub at: usize,
}

impl Records {
    pub fn of(query: &Query) -> Records {
        let mut at = 1;
        let mut place = |form: Form, words: usize| {
            at += words;
            Slot { form, at: at - words }
        };
        let keys = query.keys.iter().map(|key| query.form_of(key));
        let keys = keys.map(|form| place(form, form.key_words())).collect();
        let mask = place(Form::Opaque, 1);
        let arguments = query.arguments.iter().map(|argument| query.form_of(argument));
        let arguments = arguments.map(|form| place(form, form.argument_words())).collect();
        Records { keys, key_words: mask.at, arguments, words: at }
    }
}
