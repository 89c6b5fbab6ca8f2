use super::*;
use clap::Parser;

fn plan(args: &[&str]) -> Result<Plan, PlanError> {
    let argv: Vec<String> =
        std::iter::once("inferscope").chain(args.iter().copied()).map(String::from).collect();
    let cli = cli::Cli::try_parse_from(&argv).expect("the arguments parse");
    profile(&cli.profile, &Environment::default(), &argv)
}

#[test]
fn an_endpoint_is_taken_with_and_without_v1() {
    for text in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "h:1"] {
        let endpoint = Endpoint::parse(text).unwrap();
        assert_eq!(endpoint.join("models").as_str(), "http://h:1/v1/models", "{text}");
    }
    assert_eq!(Endpoint::parse("https://h/api/v1").unwrap().join("x").as_str(), "https://h/api/v1/x");
}

#[test]
fn a_malformed_endpoint_is_refused_without_echoing_its_credentials() {
    for text in ["http://", "ftp://h", "http://h:99999", "http://h/?q=1", ""] {
        assert!(matches!(Endpoint::parse(text), Err(PlanError::Endpoint { .. })), "{text}");
    }
    for text in [
        "http://user:hunter2@h",
        "me:hunter2pw@127.0.0.1:9/",
        "me:hunt/hunter2@h",
        ":hunter2/x@h",
        "http:me:hunter2pw@h",
        "http://h/v1?token=hunter2abcd",
        "h:1/v1?api_key=hunter2abcd",
        "h:1#hunter2",
        "http://h:1x/sk-hunter2abcd",
        "http://h:1x/aB3dE5gH7jK9hunter2",
        "sk-hunter2abcd?x",
        "sk-hunter2abcd://x",
    ] {
        let message = Endpoint::parse(text).unwrap_err().to_string();
        assert!(!message.contains("hunt"), "{text}: {message}");
    }
    // A slip of the hand is shown.
    for text in ["http:/127.0.0.1:8000", "http://h:99999/v1", "ftp://h/a", "::1:8000", "127.1"] {
        let message = Endpoint::parse(text).unwrap_err().to_string();
        assert!(message.contains(&format!("'{text}'")), "{text}: {message}");
    }
}

#[test]
fn the_url_of_one_of_the_apis_places_is_cut_to_its_base() {
    for (text, models) in [
        ("http://h:1/v1/chat/completions", "http://h:1/v1/models"),
        ("http://h:1/v1/completions/", "http://h:1/v1/models"),
        ("h:1/v1/models", "http://h:1/v1/models"),
        ("https://h/openai/v1/chat/completions", "https://h/openai/v1/models"),
        // A user who masks a part by hand has decided for all of it.
        ("https://h/api/v3/chat/completions", "https://h/api/v3/models"),
        ("http://h:1/chat/completions", "http://h:1/models"),
        ("[::1]:8000", "http://[::1]:8000/v1/models"),
        ("HTTP://H:1//", "http://h:1/v1/models"),
        ("localhost:8000/", "http://localhost:8000/v1/models"),
    ] {
        assert_eq!(Endpoint::parse(text).unwrap().join("models").as_str(), models, "{text}");
    }
}

#[test]
fn a_number_is_no_host_and_says_what_was_meant() {
    for (text, message) in [
        ("8000", "8000 is a port and no host; this machine's is http://127.0.0.1:8000"),
        ("8000/v1", "http://127.0.0.1:8000"),
        ("http://8000", "http://127.0.0.1:8000"),
        (":8000", "it has no host; this machine's is http://127.0.0.1:8000"),
        ("127.1:8000", "'127.1' is a number and no address"),
        ("0x7f000001:80", "is a number and no address"),
        ("2130706433:80", "is a number and no address"),
        ("::1", "written in brackets"),
        ("::1:8000", "written in brackets"),
        ("http:/127.0.0.1:8000", "not followed by //"),
        ("https:h", "not followed by //"),
    ] {
        let error = Endpoint::parse(text).unwrap_err().to_string();
        assert!(error.contains(message) && error.lines().count() == 2, "{text}: {error}");
    }
    for text in ["127.0.0.1:8000", "10.0.0.1", "1.example.org", "8000.lan:1"] {
        assert!(Endpoint::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn only_a_loopback_endpoint_has_a_listener_to_look_for() {
    let port = |text: &str| Endpoint::parse(text).unwrap().loopback_port();
    assert_eq!(port("http://127.0.0.1:8000"), Some(8000));
    assert_eq!(port("http://localhost"), Some(80));
    assert_eq!(port("https://[::1]"), Some(443));
    assert_eq!(port("http://[::ffff:127.0.0.1]:9"), Some(9));
    assert_eq!(port("http://10.0.0.1:8000"), None);
}

#[test]
fn the_whole_tree_is_the_default_and_a_single_process_must_be_named() {
    let target = |args: &[&str]| plan(args).map(|p| p.observe.target);
    let url = "http://127.0.0.1:1";
    assert_eq!(target(&["--endpoint", url, "--pid", "7"]), Ok(TargetPlan::Pid { pid: 7, descendants: true }));
    assert_eq!(
        target(&["--endpoint", url, "--pid", "7", "--no-descendants"]),
        Ok(TargetPlan::Pid { pid: 7, descendants: false })
    );
    assert_eq!(target(&["--endpoint", url]), Ok(TargetPlan::Listener { host: "127.0.0.1".into(), port: 1 }));
    assert_eq!(
        target(&["--endpoint", "http://[::1]:1"]),
        Ok(TargetPlan::Listener { host: "::1".into(), port: 1 })
    );
    assert!(matches!(target(&["--endpoint", url, "--no-descendants"]), Err(PlanError::Conflict { .. })));
    assert!(matches!(target(&["--endpoint", url, "--pid", "0"]), Err(PlanError::Range { flag: "pid", .. })));
}

#[test]
fn secrets_are_masked_in_the_reported_command_line() {
    let args = [
        "inferscope",
        "-H",
        "X-Key: abc",
        "--header=Authorization: Bearer abc",
        "-HX-Key: abc",
        "http://u:abc@h/v1",
    ];
    let masked = run_argv(&args.map(String::from), Redact::Names).join(" ");
    assert!(!masked.contains("abc"), "{masked}");
    assert!(masked.contains("X-Key: ***"), "{masked}");
    let plan = plan(&["--endpoint", "http://h", "--extra-body", "{\"api_key\": \"abc\"}"]).unwrap();
    assert!(!plan.argv.join(" ").contains("abc"));
}

#[test]
fn out_of_range_values_name_their_flag() {
    let error = |args: &[&str]| {
        let mut all = vec!["--endpoint", "http://h"];
        all.extend(args);
        plan(&all).unwrap_err().to_string()
    };
    assert!(error(&["--requests", "0"]).contains("--requests"));
    assert!(error(&["--max-tokens", "0"]).contains("--max-tokens"));
    assert!(error(&["--sample-interval", "0s"]).contains("--sample-interval"));
    assert!(error(&["--extra-body", "[1]"]).contains("--extra-body"));
    assert!(error(&["--gpu", "some"]).contains("--gpu"));
    assert!(error(&["-H", "no colon"]).contains("colon"));
}

#[test]
fn a_cgroup_is_a_target_and_strictness_needs_one() {
    let target = |args: &[&str]| {
        let mut all = vec!["--endpoint", "http://h"];
        all.extend(args);
        plan(&all).map(|p| p.observe.target)
    };
    let cgroup = |strict| TargetPlan::Cgroup { path: "/a/b".into(), strict };
    assert_eq!(target(&["--cgroup", "/a/b"]), Ok(cgroup(false)));
    assert_eq!(target(&["--cgroup", "/a/b", "--strict-cgroup"]), Ok(cgroup(true)));
    assert_eq!(target(&["--cgroup-of", "7"]), Ok(TargetPlan::CgroupOf { pid: 7, strict: false }));
    assert!(matches!(target(&["--strict-cgroup"]), Err(PlanError::Conflict { .. })));
    assert!(matches!(target(&["--cgroup-of", "0"]), Err(PlanError::Range { flag: "cgroup-of", .. })));
}

#[test]
fn a_ring_has_the_size_of_a_power_of_two_and_a_unit() {
    let ring =
        |size: &str| plan(&["--endpoint", "http://h", "--ring-size", size]).map(|p| p.observe.ring_bytes);
    assert_eq!(ring("512K"), Ok(524_288));
    assert_eq!(observe::ring_bytes("4096", 4_096), Ok(4_096));
    assert_eq!(observe::ring_bytes("5k", 4_096), Ok(8_192));
    assert_eq!(ring("1G"), Ok(1 << 30));
    for (page, smallest) in [(4 << 10, 4 << 10), (16 << 10, 16 << 10), (64 << 10, 64 << 10)] {
        assert_eq!(observe::ring_bytes("4K", page), Ok(smallest), "whole pages of {page} bytes");
    }
    for size in ["0", "4095", "2G", "x", "", "9999999999999G"] {
        assert!(matches!(ring(size), Err(PlanError::Range { flag: "ring-size", .. })), "{size}");
    }
}

#[test]
fn observing_needs_a_target_and_no_load() {
    let observe = |args: &[&str]| {
        let argv: Vec<String> =
            ["inferscope", "observe"].iter().chain(args).map(|&a| String::from(a)).collect();
        let cli = cli::Cli::try_parse_from(&argv).expect("the arguments parse");
        let Some(cli::Command::Observe(args)) = cli.command else { panic!("{argv:?}") };
        super::observe(&args, &Environment::default(), &argv)
    };
    assert!(matches!(observe(&[]), Err(PlanError::NoTarget)));
    let plan = observe(&["--pid", "7", "--duration", "3s"]).unwrap();
    assert!(plan.load.is_none());
    assert_eq!(plan.observe_for, Some(Nanos::from_millis(3_000)));
}

fn exec(args: &[&str]) -> Result<Plan, PlanError> {
    let argv: Vec<String> = ["inferscope", "exec"].iter().chain(args).map(|&a| String::from(a)).collect();
    let cli = cli::Cli::try_parse_from(&argv).expect("the arguments parse");
    let Some(cli::Command::Exec(args)) = cli.command else { panic!("{argv:?}") };
    super::exec(&args, &Environment::default(), &argv)
}

#[test]
fn a_command_follows_two_dashes_and_keeps_its_own_flags() {
    let plan = exec(&["--grace", "3s", "--", "sh", "-c", "exit 7", "--", "--json"]).unwrap();
    let command = plan.exec.unwrap();
    assert_eq!(command.argv, ["sh", "-c", "exit 7", "--", "--json"].map(std::ffi::OsString::from));
    assert_eq!((command.grace, command.output), (Nanos::from_millis(3_000), CommandOutput::Stderr));
    assert!(plan.load.is_none() && plan.output.stdout.name() == "text");
    for wrong in [&["exec"][..], &["exec", "sh"], &["exec", "--"], &["exec", "--pid", "7", "--", "sh"]] {
        let argv = std::iter::once("inferscope").chain(wrong.iter().copied());
        assert!(cli::Cli::try_parse_from(argv).is_err(), "{wrong:?}");
    }
    assert!(matches!(exec(&["--", ""]), Err(PlanError::Value { .. })));
}

#[test]
fn a_command_is_driven_only_with_an_endpoint_and_its_time_is_the_runs_without() {
    let plan = exec(&["--duration", "3s", "--", "sh"]).unwrap();
    assert_eq!(plan.observe_for, Some(Nanos::from_millis(3_000)));
    let plan =
        exec(&["--endpoint", "127.0.0.1:1", "--duration", "3s", "--requests", "5", "--", "sh"]).unwrap();
    assert_eq!((plan.observe_for, plan.load.unwrap().requests), (None, Some(5)));
    for load in [["--requests", "5"], ["--warmup", "1"], ["--model", "m"]] {
        let error = exec(&[load[0], load[1], "--", "sh"]).unwrap_err();
        assert!(error.to_string().contains("--endpoint"), "{error}");
    }
}

#[test]
fn the_commands_output_goes_anywhere_but_to_standard_output() {
    let output = |to: &str| exec(&["--command-output", to, "--", "sh"]).unwrap().exec.unwrap().output;
    assert_eq!(output("stderr"), CommandOutput::Stderr);
    assert_eq!(output("null"), CommandOutput::Null);
    assert_eq!(output("./null"), CommandOutput::File("./null".into()));
}

#[test]
fn secrets_of_the_command_are_masked_as_those_of_any_process() {
    let plan = exec(&["-H", "X-Key: abc", "--", "serve", "--api-key", "abc", "HF_TOKEN=abc", "--port", "80"])
        .unwrap();
    let shown = plan.argv.join(" ");
    assert!(!shown.contains("abc"), "{shown}");
    assert!(shown.ends_with("-- serve --api-key *** *** --port 80"), "{shown}");
}

#[test]
fn the_loads_seed_is_given_or_drawn() {
    let seed = |more: &[&str]| {
        let args = [&["inferscope", "--endpoint", "http://h"], more].concat();
        let argv: Vec<String> = args.iter().copied().map(String::from).collect();
        let cli = cli::Cli::try_parse_from(&argv).unwrap();
        let env = Environment { drawn_seed: 77, ..Environment::default() };
        let load = profile(&cli.profile, &env, &argv).unwrap().load.unwrap();
        (load.load_seed, load.seed)
    };
    assert_eq!(seed(&[]), (77, None));
    assert_eq!(seed(&["--seed", "5"]), (5, Some(5)));
    assert_eq!(seed(&["--seed", "5", "--load-seed", "6"]), (6, Some(5)));
}
