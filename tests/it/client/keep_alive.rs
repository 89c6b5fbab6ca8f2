//! A server that says that it keeps connections alive and then ends them: no request may fail by that.
//!
//! llama.cpp's server sends its FIN after each stream and reads on for a moment, so that a request sent in between is
//! acknowledged and lost.

use inferscope_tests::process::Wrapped;
use inferscope_tests::report::Named;
use inferscope_tests::{binary, requirements};

/// What is sent at each concurrency; `INFERSCOPE_KEEP_ALIVE_REQUESTS=500` for a closer look.
const REQUESTS: u32 = 24;

#[test]
fn no_request_to_the_real_engine_fails_by_its_keep_alive() {
    let Some(engine) = requirements::engine("a real engine that ends kept-alive connections") else { return };
    let requests = std::env::var("INFERSCOPE_KEEP_ALIVE_REQUESTS").ok().and_then(|n| n.parse().ok());
    let requests: u32 = requests.unwrap_or(REQUESTS);
    let [server, model] = [&engine.server, &engine.model].map(|path| path.to_str().unwrap());
    let args = [server, "--model", model, "--lifetime", "600", "--parallel", "4"];
    let server = Wrapped::start(&engine.python, &args);
    for concurrency in ["1", "4", "16"] {
        let (endpoint, requests) = (server.endpoint(), requests.to_string());
        let mut args = vec!["--endpoint", &endpoint, "--json", "--gpu", "off", "--tracker", "proc"];
        args.extend(["--requests", &requests, "--concurrency", concurrency, "--max-tokens", "2"]);
        let report = binary::run(&args).report();
        let load = &report["load"];
        requirements::say(&format!(
            "llama.cpp at concurrency {concurrency}: {} ok, {} failed, {} sent again, {} connections",
            load["requests_ok"], load["requests_failed"], load["requests_resent"], load["connections_opened"]
        ));
        assert_eq!(load["requests_failed"], 0, "{}", load["failures"]);
        // Nothing is lost any more once it is known that connections are not kept.
        let resent = load.whole("requests_resent");
        assert!(resent <= 2 * concurrency.parse::<u64>().unwrap(), "{resent} sent again");
    }
}
