//! The text below a command's flags: examples and exit codes.

pub(super) const NOTES: &str = "\
`inferscope --help` has every flag, and examples.";

pub(super) const EXAMPLES: &str = "\
Each flag is an environment variable, too: --max-tokens is INFERSCOPE_MAX_TOKENS. The flag wins.

Examples:
  See it work, on a built-in server
    inferscope demo
  One request; the process that listens there is found, and observed with all below it
    inferscope --endpoint http://127.0.0.1:8000
  Closed loop: 8 requests under way at any time, 200 in all, 8 before them as warm-up
    inferscope --endpoint http://127.0.0.1:8000 --concurrency 8 --requests 200 --warmup 8 -o run.json
  Open loop: 5 requests a second for a minute, whether or not the server keeps up
    inferscope --endpoint http://127.0.0.1:8000 --rate 5 --duration 60s
  Sweep: up to where more concurrency gives no more tokens; prompts of 512 tokens, none beginning alike
    inferscope --endpoint http://127.0.0.1:8000 --sweep concurrency=1,2,4,8,16 --duration 30s --input-tokens 512
  Data set: each of its prompts once, 4 at a time
    inferscope --endpoint http://127.0.0.1:8000 --dataset sharegpt.jsonl --concurrency 4
  Service level: exit 4 where a request misses it
    inferscope --endpoint http://127.0.0.1:8000 --rate 5 --duration 60s --slo ttft=200ms,itl=30ms --fail-on-slo
  How far runs agree: five of them, with 95% intervals
    inferscope --endpoint http://127.0.0.1:8000 --concurrency 8 --requests 100 --repeat 5

Exit codes:
  0 ok · 1 internal failure · 2 usage · 3 nothing measured · 4 service level missed (--fail-on-slo)
  5 a privilege asked for by name is missing · 130 interrupted (SIGINT, SIGTERM, SIGHUP, SIGQUIT), the report of what
  was measured still written; where nothing was, an older report in its place is left as it was";

pub(super) const EXEC_NOTES: &str = "\
Without --endpoint the command is observed until it ends, or for --duration. With it, the load begins when the
endpoint answers and the command is ended after it: SIGTERM, --grace, SIGKILL, for all that it started.

The command runs in a cgroup of its own where one can be made, which is removed afterwards. What it leaves
running when it ends by itself is left running. Signals sent to inferscope reach it; SIGINT, SIGTERM, SIGHUP and
SIGQUIT end the run too, with all that the command left, and a second one kills it. Where inferscope itself is
killed, the command is ended.

Standard output is the report's alone: the command's goes to standard error, or where --command-output says.

Exit codes: 0 when the run was measured, however the command ended (see target.exit in the report, and stderr);
2 when it can't be run; 3 when it ended, or the time was up, before the endpoint answered; 4 where --fail-on-slo was
missed; 130 after a signal, the report still written.

Examples:
  inferscope exec -- make -j8
  inferscope exec --endpoint http://127.0.0.1:8000 --requests 20 --warmup 2 -o run.json -- vllm serve MODEL";
