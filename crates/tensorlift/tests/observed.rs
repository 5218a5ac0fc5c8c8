//! What logs and metrics see of a load; a process of its own, since its log is that of all threads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tensorlift::Checkpoint;
use tracing::field::{Field, Visit};
use tracing::span::Attributes;
use tracing::{Event, Id, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Scope};

/// Spans, each behind the spans it is in, and events, each behind its span.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<String>>>);

impl Seen {
    fn add(&self, line: String) {
        self.0.lock().unwrap().insert(line);
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let scope = context.span_scope(id).unwrap().from_root();
        let names: Vec<&str> = scope.map(|span| span.name()).collect();
        self.add(names.join(" "));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let scope = context.event_scope(event);
        let scope = scope.into_iter().flat_map(Scope::from_root);
        let mut line: Vec<String> = scope.map(|span| span.name().to_owned()).collect();
        let mut message = Message::default();
        event.record(&mut message);
        line.push(format!("- {}", message.0));
        self.add(line.join(" "));
    }
}

#[test]
fn every_phase_is_a_span_and_every_file_an_event() {
    let seen = Seen::default();
    let subscriber = tracing_subscriber::registry().with(seen.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");
    let checkpoint = Checkpoint::open(format!("{fixtures}/sharded-safetensors")).unwrap();
    checkpoint.loader().load().unwrap();
    let missing = checkpoint.loader().select_names(["no such name"]).load();
    missing.unwrap_err();
    let seen = seen.0.lock().unwrap();
    for line in [
        "resolve",
        "open",
        "parse",
        "load",
        "load plan",
        "load allocate",
        "load read",
        "load read - reader chosen",
        "load read - shard read",
        "load finish",
        "load - loaded",
        "load - load failed",
        "- opened",
    ] {
        assert!(seen.contains(line), "{line:?} is not among {seen:#?}");
    }
}

#[cfg(feature = "metrics")]
mod metrics {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use ::metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
        Recorder, SharedString, Unit,
    };
    use tensorlift::{Checkpoint, metrics};

    /// What each metric was told, by name and labels.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

    struct Metric(Told, String);

    impl Metric {
        fn of(told: &Told, key: &Key) -> Arc<Self> {
            let labels = key.labels();
            let labels = labels.map(|label| format!(" {}={}", label.key(), label.value()));
            let name = key.name().to_owned() + &labels.collect::<String>();
            Arc::new(Self(told.clone(), name))
        }

        fn add(&self, value: f64) {
            let mut told = self.0.0.lock().unwrap();
            told.entry(self.1.clone()).or_default().push(value);
        }
    }

    impl CounterFn for Metric {
        fn increment(&self, value: u64) {
            self.add(value as f64);
        }
        fn absolute(&self, value: u64) {
            self.add(value as f64);
        }
    }

    impl GaugeFn for Metric {
        fn increment(&self, value: f64) {
            self.add(value);
        }
        fn decrement(&self, value: f64) {
            self.add(-value);
        }
        fn set(&self, value: f64) {
            self.add(value);
        }
    }

    impl HistogramFn for Metric {
        fn record(&self, value: f64) {
            self.add(value);
        }
    }

    impl Recorder for Told {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Metric::of(self, key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Metric::of(self, key))
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Metric::of(self, key))
        }
    }

    #[test]
    fn loads_are_counted_by_reader_and_failures_by_kind() {
        let told = Told::default();
        let report = ::metrics::with_local_recorder(&told, || {
            metrics::describe();
            let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");
            let checkpoint = Checkpoint::open(format!("{fixtures}/tiny-model")).unwrap();
            let missing = checkpoint.loader().select_names(["no such name"]).load();
            missing.unwrap_err();
            checkpoint.loader().load().unwrap().report().clone()
        });
        let told = told.0.lock().unwrap();
        let bytes = format!("{} format=safetensors reader=buffered", metrics::BYTES_READ);
        assert_eq!(told[&bytes], [report.bytes_read as f64]);
        assert_eq!(told[metrics::LOAD_SECONDS], [report.wall.as_secs_f64()]);
        let kind = format!("{} kind=not_found", metrics::ERRORS);
        assert_eq!(told[&kind], [1.0]);
        for (result, count) in [("ok", 1.0), ("error", 1.0)] {
            let name = format!("{} result={result}", metrics::LOADS);
            assert_eq!(told[&name], [count]);
        }
        let phase = format!("{} phase=read", metrics::PHASE_SECONDS);
        assert_eq!(told[&phase], [report.phases.read.as_secs_f64()]);
        let refused = told
            .keys()
            .filter(|name| name.starts_with(metrics::READERS_REFUSED));
        assert!(refused.count() > 0, "{told:#?}");
    }
}
