use super::*;

#[test]
fn all_is_there_from_the_start_and_what_there_is_now_is_looked_at_each_time() {
    let metrics = Metrics::default();
    let text = metrics.text();
    for line in [
        "whittle_builds_total{result=\"Succeeded\"} 0",
        "whittle_builds_total{result=\"StepFailed\"} 0",
        "whittle_reconcile_errors_total{kind=\"Builder\"} 0",
        "whittle_callbacks_refused_total{reason=\"TooMany\"} 0",
        "whittle_notifications_total{result=\"Dropped\"} 0",
        "whittle_traces_total{result=\"Dropped\"} 0",
        "whittle_builds_waiting{reason=\"Queued\"} 0",
        "whittle_builders{state=\"Asleep\"} 0",
        "whittle_build_steps_total{cached=\"true\"} 0",
        "whittle_build_phase_seconds_count{phase=\"readBack\"} 0",
        concat!(
            "whittle_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    for name in [
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(text.contains(&format!("\n{name}")), "{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");

    metrics.look(|| Figures {
        running: 2,
        waiting: [("Queued", 3)].into(),
        oldest: 61.5,
        builders: [("Awake", 1)].into(),
        cache: 4096,
        replicas: [("Ready", 3)].into(),
    });
    metrics.steps(Steps {
        total: 14,
        cached: 9,
    });
    metrics.phases(&Phases {
        solve: Some(42_500),
        ..Phases::default()
    });
    let text = metrics.text();
    for line in [
        "whittle_builds_running 2",
        "whittle_builds_waiting{reason=\"Queued\"} 3",
        "whittle_builds_waiting{reason=\"Other\"} 0",
        "whittle_builds_waiting_oldest_seconds 61.5",
        "whittle_builders{state=\"Awake\"} 1",
        "whittle_builder_cache_bytes 4096",
        "whittle_builder_replicas{state=\"Ready\"} 3",
        "whittle_builder_replicas{state=\"Down\"} 0",
        "whittle_build_steps_total{cached=\"true\"} 9",
        "whittle_build_steps_total{cached=\"false\"} 5",
        "whittle_build_phase_seconds_sum{phase=\"solve\"} 42.5",
        "whittle_build_phase_seconds_count{phase=\"push\"} 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
}

#[test]
fn whatever_a_runner_says_of_its_steps_little_is_added() {
    let metrics = Metrics::default();
    for (total, cached) in [(i32::MIN, 1), (i32::MAX, -1), (-5, i32::MIN), (3, 7)] {
        metrics.steps(Steps { total, cached });
    }
    let text = metrics.text();
    for line in [
        "whittle_build_steps_total{cached=\"true\"} 3",
        "whittle_build_steps_total{cached=\"false\"} 10000",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
}

#[test]
fn what_was_counted_stands_in_the_text() {
    let metrics = Metrics::default();
    metrics.reconcile("ImageBuild");
    metrics.reconcile("ImageBuild");
    metrics.built("team", "StepFailed", Some(3), Some(40));
    metrics.pushed([4_812_345, -1].into_iter());
    let text = metrics.text();
    assert!(
        text.contains(r#"whittle_reconciles_total{kind="ImageBuild"} 2"#),
        "{text}"
    );
    assert!(
        text.contains(r#"whittle_builds_total{result="StepFailed"} 1"#),
        "{text}"
    );
    for sum in [
        "whittle_build_duration_seconds_sum 3.0",
        "whittle_build_queued_seconds_sum 40.0",
        "whittle_image_bytes_total 4812345",
    ] {
        assert!(text.contains(sum), "{text}");
    }
}

#[test]
fn a_namespace_is_named_where_that_is_asked_for_and_nowhere_else() {
    let line = "whittle_namespace_builds_total{namespace=\"team\",result=\"Succeeded\"} 1";
    for (asked, there) in [(true, true), (false, false)] {
        let metrics = Metrics::new(asked);
        metrics.attempt("team");
        metrics.built("team", "Succeeded", Some(3), None);
        let text = metrics.text();
        assert_eq!(text.lines().any(|it| it == line), there, "{text}");
        assert_eq!(text.contains("team"), there, "{text}");
    }
}
