//! What a device is asked to do with rows: filter them, compute keys and arguments, aggregate.
//!
//! Also where things lie in a row's record, which `project` writes and `aggregate` reads: the key
//! (a word that says which of its columns are there, then their words), a word that says which
//! arguments are there, the arguments, the row's offset where one is asked for. The bytes of texts lie
//! behind the records of all rows.

use arrow::datatypes::{DataType, Field};

use super::form::Form;
use super::states::States;
use super::support;
use crate::cpu::aggregate::{AggregateFunction, Call};
use crate::cpu::column::Class;
use crate::expr::{Expr, ExprKind};

/// Nobody has measured the texts of a job before it runs.
const TEXT_BYTES_ASSUMED: usize = 16;
/// Keys and arguments are told present by a bit each.
pub const COLUMNS_MAX: usize = 32;

/// A column that comes from the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub data_type: DataType,
    /// A `UInt32Array` as it is: text as ids, 0 for NULL, or [`Query::offsets`].
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
    /// Where `first` or `last` is asked for: the input that has a row's offset in its batch's place
    /// ([`crate::cpu::aggregate::Positions`]).
    pub offsets: Option<usize>,
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
            if let Some(argument) = call.argument.filter(|_| reads_text(call))
                && self.form_of(&self.arguments[argument]) == Form::Id
            {
                refuse(node(), "ids of a text are not in its order".to_owned());
            }
            if goes_by_position(call) && self.offsets.is_none() {
                refuse(node(), "it goes by position, which rows without offsets lack".to_owned());
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

    /// How an argument lies in a record: the bytes of a text only where an aggregate compares or keeps them.
    fn form_of_argument(&self, argument: usize) -> Form {
        let of_argument = |call: &Call| call.argument == Some(argument) && reads_text(call);
        match self.form_of(&self.arguments[argument]) {
            Form::Opaque if self.calls.iter().any(of_argument) => Form::Text,
            form => form,
        }
    }

    /// Bytes of a row that go up, a text taken for a short one.
    pub fn row_bytes(&self) -> usize {
        let bytes = |form: &Form| match form {
            Form::Bool | Form::Opaque => 1,
            Form::Int(bits) => *bits as usize / 8,
            Form::Single | Form::Id => 4,
            Form::Long | Form::Double => 8,
            Form::Wide => 16,
            Form::Text => 8 + TEXT_BYTES_ASSUMED,
        };
        self.input_forms().iter().map(bytes).sum()
    }

    /// How each input goes up.
    pub(super) fn input_forms(&self) -> Vec<Form> {
        let mut forms: Vec<Form> = self.inputs.iter().map(Input::form).collect();
        for (place, argument) in self.arguments.iter().enumerate() {
            if let (ExprKind::Column(column), Form::Text) =
                (&argument.kind, self.form_of_argument(place))
            {
                forms[*column] = Form::Text;
            }
        }
        forms
    }
}

/// Does it need the bytes of its text, rather than whether there is one?
fn reads_text(call: &Call) -> bool {
    let is_text = call.spec.input.as_ref().and_then(Class::of) == Some(Class::Bytes);
    is_text && call.spec.function != AggregateFunction::Count
}

/// `first` and `last`.
pub fn goes_by_position(call: &Call) -> bool {
    use AggregateFunction::{First, Last};
    matches!(call.spec.function, First { .. } | Last { .. })
}

/// Where a row's key and arguments lie in its record, in words.
#[derive(Clone, Debug)]
pub(super) struct Records {
    pub keys: Vec<Slot>,
    /// Words of the key, its first one included.
    pub key_words: usize,
    pub arguments: Vec<Slot>,
    /// Where the row's offset lies.
    pub offset: Option<usize>,
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
        let arguments = (0..query.arguments.len()).map(|argument| query.form_of_argument(argument));
        let arguments = arguments.map(|form| place(form, form.argument_words())).collect();
        let offset = query.offsets.map(|_| place(Form::Id, 1).at);
        Records { keys, key_words: mask.at, arguments, offset, words: at }
    }
}
