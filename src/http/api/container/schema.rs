//! The fields of `input` and the words of `view`, for the document. Nothing is ever read into these types; the tests
//! hold them to `input` and to the model.
#![expect(dead_code, reason = "described, and never made")]

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::http::openapi::{Amount, Number, Pairs, Span, Texts};

/// What a new container is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewContainer {
    /// An image on the host that exposes a port.
    #[schema(examples("spindown/ssh"), min_length = 1, max_length = 255)]
    image: String,
    /// 2 to 63 letters, digits, `_`, `.`, `-`, a letter or digit first; not 12 or more hex digits. Without it the engine
    /// makes one up.
    #[schema(examples("ada"))]
    name: Option<String>,
    /// A list of words; one text alone is for `/bin/sh -c`. Without it the image's.
    command: Option<Texts>,
    /// Variables: at most 200, each value at most 32 KiB.
    env: Option<Pairs>,
    /// At most 64, names (letters, digits, `.`, `_`, `-`, `/`) and values at most 256 bytes.
    #[schema(examples(json!({"course": "rust"})), inline)]
    labels: Option<Pairs>,
    /// Public keys as in that file, at most 100. Without them nobody can log in.
    authorized_keys: Option<Texts>,
    /// Seconds, a duration (`90m`, `1h30m`, `2d`), `never` or null. Without it the server's.
    idle_timeout: Option<Span>,
    /// After how much idleness it is frozen: as `idle_timeout`; `default` leaves it to the image's label or the server.
    freeze_after: Option<Span>,
    /// How long it may be down before it is deleted; likewise.
    delete_after: Option<Span>,
    /// How long it may be up at a stretch; likewise.
    max_age: Option<Span>,
    /// How long before a stop whoever is logged in is told; likewise.
    warn_before: Option<Span>,
    /// Timetables during which nothing sleeps, at most 16: a list, or one text with `;` between them; empty for none,
    /// `default` as above.
    #[schema(examples("0 9 * * mon-fri for 8h in Europe/Berlin"), inline)]
    keep_awake: Option<Texts>,
    /// What counts as use: `traffic` and `terminal` are `on` or `off`; `processor` a share of one (`5%`), `disk` bytes a
    /// second (`1m`), either also `on` or `off`; `connections` are `on`, `off` or `auto`. What is not named is left to the
    /// image's label or the server; so is all of it by the text `default`.
    #[schema(examples(json!({"processor": "20%", "disk": "off"})), inline)]
    evidence: Option<Pairs>,
    /// For what it wakes when it is down: `always` (the default) is however it came down, but for a person's stop; `idle`
    /// is not if it ended by itself.
    #[schema(inline)]
    wake: Option<WakeWord>,
    /// Bytes, or a number with `k`, `m`, `g`; at least `6m`. Without it the server's.
    memory: Option<Amount>,
    /// 0.01 up to what the host has. Without it the server's.
    cpus: Option<Number>,
    /// Names of volumes by mount point, `{"/home/student": "ada-home"}`: at most 8.
    #[schema(examples(json!({"/home/student": "ada-home"})))]
    volumes: Option<Pairs>,
}

/// What is to be done to all containers with certain labels.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BulkAction {
    /// What is to be done.
    #[schema(inline)]
    action: ActionWord,
    /// Those with this label, `name` or `name=value`; several, those with all of them. At least one is needed.
    label: Texts,
}

/// What goes with a container that is removed.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveQuery {
    /// Its volumes are removed with it, unless others use them.
    volumes: Option<bool>,
}

/// Which part of a container's output is meant.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogsQuery {
    /// So many of the last lines, at most 100000, or `all`. Without it 100.
    tail: Option<String>,
    /// What is written from now on comes, too, as it is written.
    follow: Option<bool>,
    /// Each line begins with when it was written.
    timestamps: Option<bool>,
}

/// What is to become of a container: at least one of these.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContainerChange {
    /// `running` starts it, or lets a frozen one go on, and answers when it runs; `frozen` halts its processes until
    /// something comes for it; `stopped` begins to stop it, and answers at once.
    #[schema(examples("running", "frozen", "stopped"), inline)]
    status: Option<WantedWord>,
    /// As at the creation.
    #[schema(examples("ada"))]
    name: Option<String>,
    /// As at the creation; it runs from the last sign of use, which this is.
    idle_timeout: Option<Span>,
    /// As at the creation.
    freeze_after: Option<Span>,
    /// As at the creation.
    delete_after: Option<Span>,
    /// As at the creation.
    max_age: Option<Span>,
    /// As at the creation.
    warn_before: Option<Span>,
    /// As at the creation, in place of all it had.
    #[schema(examples("0 9 * * mon-fri for 8h in Europe/Berlin"), inline)]
    keep_awake: Option<Texts>,
    /// As at the creation, in place of all that was set.
    #[schema(examples(json!({"processor": "20%", "disk": "off"})), inline)]
    evidence: Option<Pairs>,
    /// As at the creation.
    #[schema(inline)]
    wake: Option<WakeWord>,
    /// In place of all it had.
    #[schema(examples(json!({"course": "rust"})), inline)]
    labels: Option<Pairs>,
    /// In place of all in that file.
    authorized_keys: Option<Texts>,
}

/// For how much longer a container is to be kept up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Extension {
    /// Seconds or a duration (`1h`), at least a second and at most what the server allows.
    by: Span,
}

/// What a list is to show.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those with this status.
    #[param(inline)]
    status: Option<StatusWord>,
    /// Only those of this image; the tag `latest` may be left out.
    image: Option<String>,
    /// Only those with this label, `name` or `name=value`; repeated, those with all of them.
    label: Option<Vec<String>>,
    /// Every container is looked at in the engine first.
    audit: Option<bool>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
    /// Only those behind this one: the last of the page before.
    after: Option<String>,
}

/// What can be done to many containers at once.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ActionWord {
    Start,
    Stop,
    Delete,
}

/// What may be set as a status.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum WantedWord {
    Running,
    Frozen,
    Stopped,
}

/// What a container is doing.
#[derive(Deserialize, ToSchema)]
#[schema(as = Status)]
#[serde(rename_all = "lowercase")]
pub(super) enum StatusWord {
    Running,
    Frozen,
    Stopping,
    Stopped,
    Missing,
}

/// Who or what brought a container down.
#[derive(Deserialize, ToSchema)]
#[schema(as = StoppedBy)]
#[serde(rename_all = "lowercase")]
pub(in crate::http::api) enum StoppedByWord {
    Idle,
    Age,
    User,
    #[serde(rename = "self")]
    Own,
    Host,
}

/// The transport protocol of a port.
#[derive(Deserialize, ToSchema)]
#[schema(as = Protocol)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProtocolWord {
    Tcp,
    Udp,
    Sctp,
}

/// For what a container wakes.
#[derive(Deserialize, ToSchema)]
#[schema(as = Wake)]
#[serde(rename_all = "lowercase")]
pub(super) enum WakeWord {
    Always,
    Idle,
    Never,
}

/// A kind of sign.
#[derive(Deserialize, ToSchema)]
#[schema(as = Sign)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SignWord {
    Start,
    Request,
    Traffic,
    Terminal,
    Processor,
    Disk,
    Connections,
    Carried,
    CheckIn,
    Remembered,
}

/// What happened.
#[derive(Deserialize, ToSchema)]
#[schema(as = EventName)]
#[serde(rename_all = "snake_case")]
pub(in crate::http::api) enum EventWord {
    Created,
    Started,
    Woken,
    WakeRefused,
    Stopping,
    Kept,
    Stopped,
    Warned,
    Frozen,
    Thawed,
    Missing,
    Removed,
    CheckInLost,
    CheckInBack,
    HostDown,
    HostUp,
    StoreDown,
    StoreUp,
    RulesRestored,
}

/// What is to become of a container.
#[derive(Deserialize, ToSchema)]
#[schema(as = Verdict)]
#[serde(rename_all = "lowercase")]
pub(super) enum VerdictWord {
    Keep,
    Freeze,
    Sleep,
    Delete,
}

/// A step down the ladder.
#[derive(Deserialize, ToSchema)]
#[schema(as = Step)]
#[serde(rename_all = "lowercase")]
pub(super) enum StepWord {
    Freeze,
    Sleep,
    Delete,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use utoipa::{PartialSchema, openapi::path::Parameter};

    use super::*;
    use crate::{
        http::{
            api::container::input::{self, Bulk, Patch, extension, new_container},
            fields::Fields,
        },
        model::{Protocol, Result, Status, StoppedBy, Wake, What},
        policy::idle::{Sign, Verdict},
    };

    /// The documented fields of a type, with their schemas.
    fn fields<T: PartialSchema>() -> Vec<(String, Value)> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        let fields = schema["properties"].as_object().unwrap().clone();
        assert_eq!(schema["additionalProperties"], false, "whatever is not asked for is refused");
        fields.into_iter().collect()
    }

    fn assert_same(documented: Vec<String>, read: &[&str]) {
        let documented: BTreeSet<&str> = documented.iter().map(String::as_str).collect();
        assert_eq!(documented, read.iter().copied().collect());
    }

    #[test]
    fn the_documented_fields_are_those_that_are_read() {
        let names = |fields: Vec<(String, Value)>| fields.into_iter().map(|(name, _)| name).collect();
        assert_same(names(fields::<NewContainer>()), &input::CREATE);
        assert_same(names(fields::<ContainerChange>()), &input::PATCH);
        assert_same(names(fields::<BulkAction>()), &input::BULK);
        assert_same(names(fields::<Extension>()), &input::EXTEND);
        let names = |query: Vec<Parameter>| query.into_iter().map(|parameter| parameter.name).collect();
        assert_same(names(ListQuery::into_params(|| None)), &input::LIST);
        assert_same(names(RemoveQuery::into_params(|| None)), &input::REMOVE);
        assert_same(names(LogsQuery::into_params(|| None)), &input::LOGS);
    }

    #[test]
    fn the_documented_words_are_those_of_the_model() {
        fn same<T: PartialSchema>(words: &[&str]) {
            assert_eq!(serde_json::to_value(T::schema()).unwrap()["enum"], json!(words));
        }
        same::<StatusWord>(&Status::ALL.map(Status::as_str));
        same::<StoppedByWord>(&StoppedBy::ALL.map(StoppedBy::as_str));
        same::<VerdictWord>(&Verdict::ALL.map(Verdict::as_str));
        same::<StepWord>(&[Verdict::Freeze, Verdict::Sleep, Verdict::Delete].map(Verdict::as_str));
        same::<WakeWord>(&Wake::ALL.map(Wake::as_str));
        same::<EventWord>(&What::ALL.map(|what| what.as_str()));
        same::<ProtocolWord>(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|p| p.as_str()));
        same::<SignWord>(&Sign::ALL.map(Sign::as_str));
    }

    /// What may be given for a field, in each of the types that it may have.
    fn examples(name: &str) -> Vec<Value> {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHSRvbQRYnPykC7jAyD/kMv/lFA9Wp0UJRRVTDVKGmIi ada";
        let examples = match name {
            "image" => json!(["spindown/ssh"]),
            "status" => json!(["running", "frozen", "stopped"]),
            "name" => json!(["ada"]),
            "command" => json!(["sleep 60", ["sleep", "60"]]),
            "env" | "labels" => json!([{"EDITOR": "vi"}, {}, "", "EDITOR=vi", ["EDITOR=vi", "A="], []]),
            "authorized_keys" => json!([key, [key]]),
            "idle_timeout" => json!(["90m", 5400, "never", null]),
            "freeze_after" | "delete_after" | "max_age" | "warn_before" => {
                json!(["90m", 5400, "never", "default", null])
            }
            "keep_awake" => {
                let text = "0 9 * * mon-fri for 8h in Europe/Berlin";
                json!([text, [text, text], format!("{text}; {text}"), [], "", "default"])
            }
            "evidence" => {
                json!([{"processor": "20%", "disk": "off"}, {}, "", "processor=5%", ["traffic=on", "disk=1m"], "default"])
            }
            "by" => json!(["1h", 600, "600"]),
            "wake" => json!(["always", "idle", "never"]),
            "memory" => json!(["512m", 536_870_912]),
            "cpus" => json!([0.5, 1, "0.5"]),
            "volumes" => json!([{"/home/student": "ada-home"}, {}, "", "/data=ada-data", ["/data=ada-data"], []]),
            "action" => json!(["start", "stop", "delete"]),
            "label" => json!(["course", "course=cs1", ["course", "year=1"]]),
            unknown => panic!("{unknown} has no example here"),
        };
        examples.as_array().unwrap().clone()
    }

    /// What is documented for each field is read, and a value of a type that is not is refused.
    fn hold_to<T: PartialSchema + DeserializeOwned, R>(needed: &[(&str, Value)], read: impl Fn(Fields) -> Result<R>) {
        let given = |name: &str, value: &Value| -> Vec<(String, Value)> {
            let others = needed.iter().filter(|(other, _)| *other != name).map(|(n, v)| ((*n).to_owned(), v.clone()));
            others.chain([(name.to_owned(), value.clone())]).collect()
        };
        let texts = json!(["a", 5]);
        let types = [json!(true), json!(5), json!(-5), json!(1.5), json!("a"), json!([]), texts, json!({"a": 5})];
        for (name, _) in fields::<T>() {
            for example in examples(&name) {
                let given = given(&name, &example);
                let outcome = read(Fields::given(given.clone()));
                assert!(outcome.is_ok(), "{name} {example}: {:?}", outcome.err());
                serde_json::from_value::<T>(given.into_iter().collect()).expect("an example is of the type");
            }
            for value in &types {
                let given = given(&name, value);
                if serde_json::from_value::<T>(given.clone().into_iter().collect()).is_err() {
                    assert!(read(Fields::given(given)).is_err(), "{name} is {value}, which is not documented");
                }
            }
        }
    }

    #[test]
    fn what_is_documented_is_read_and_nothing_else() {
        hold_to::<NewContainer, _>(&[("image", json!("x"))], new_container);
        hold_to::<BulkAction, _>(&[("action", json!("stop")), ("label", json!("course"))], Bulk::read);
        hold_to::<Extension, _>(&[("by", json!(1))], extension);
        // Something is to change, whatever the field says.
        hold_to::<ContainerChange, _>(&[("labels", json!({})), ("name", json!("ada"))], Patch::read);
    }
}
