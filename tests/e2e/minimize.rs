//! What the program of an image never reaches is left out, and the image without it answers as the full one does.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::{Value, json};
use whittle_api::FailureReason::HealthCheckFailed;
use whittle_api::{ImageBuildStatus, MinimizeOutcome, find};

use crate::field::{Field, PATIENCE};
use crate::long;
use crate::registry::{files_of, find_manifest, manifest};

/// A program, built in one stage as most people do it, and by hand as somebody does who knows.
struct Program {
    name: &'static str,
    one_stage: &'static str,
    by_hand: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// What is asked of both.
    asks: &'static [&'static str],
    /// The smaller image against the one made by hand, at most, in percent.
    most: i64,
}

const GO: &str = r#"package main

import (
	"crypto/x509"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/user"
	"time"
)

func main() {
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "well") })
	http.HandleFunc("/zone", func(w http.ResponseWriter, _ *http.Request) {
		_, err := time.LoadLocation("Europe/Berlin")
		fmt.Fprintln(w, err)
	})
	http.HandleFunc("/roots", func(w http.ResponseWriter, _ *http.Request) {
		pool, err := x509.SystemCertPool()
		fmt.Fprintln(w, len(pool.Subjects()), err)
	})
	http.HandleFunc("/user", func(w http.ResponseWriter, _ *http.Request) {
		found, err := user.LookupId("65534")
		fmt.Fprintln(w, found, err)
	})
	http.HandleFunc("/host", func(w http.ResponseWriter, _ *http.Request) {
		found, err := net.LookupHost("localhost")
		fmt.Fprintln(w, len(found) > 0, err)
	})
	http.HandleFunc("/source", func(w http.ResponseWriter, _ *http.Request) {
		found, err := os.ReadFile("/src/template.txt")
		fmt.Fprintln(w, string(found), err)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
"#;

const PYTHON: &str = r#"import json, locale, os, socket, sqlite3, ssl, subprocess, sys, zoneinfo
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def modules():
    import importlib, pkgutil
    found = []
    for name in ["asyncio", "ctypes", "curses", "dbm", "decimal", "email.mime.text", "encodings.cp1252", "hashlib", "lzma",
                 "multiprocessing", "pydoc", "readline", "unittest", "uuid", "xml.etree.ElementTree", "zipfile"]:
        importlib.import_module(name)
        found.append(name)
    return found

ANSWERS = {
    "/healthz": lambda: "well",
    "/zone": lambda: str(zoneinfo.ZoneInfo("Europe/Berlin")),
    "/roots": lambda: ssl.create_default_context().cert_store_stats(),
    "/host": lambda: socket.gethostbyname("localhost"),
    "/locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
    "/sqlite": lambda: sqlite3.connect(":memory:").execute("select 6 * 7").fetchone(),
    "/shell": lambda: subprocess.run("echo from a shell", shell=True, capture_output=True, text=True).stdout,
    "/template": lambda: open(os.path.join(os.path.dirname(__file__), "templates", "report.txt")).read(),
    "/modules": modules,
}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            body = json.dumps(ANSWERS[self.path]()).encode()
        except Exception as error:
            body = repr(error).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"#;

const NODE: &str = r#"const http = require("http");
const fs = require("fs");
const path = require("path");
const answers = {
  "/healthz": () => "well",
  "/zone": () => new Date(0).toLocaleString("de-DE", { timeZone: "Europe/Berlin" }),
  "/intl": () => new Intl.NumberFormat("fr-FR").format(1234567.89),
  "/roots": () => require("tls").rootCertificates.length > 0,
  "/module": () => require("./lib/" + ["la", "zy"].join("")).hello(),
  "/template": () => fs.readFileSync(path.join(__dirname, "templates", "report.txt"), "utf8"),
  "/zip": () => require("zlib").gzipSync("x").length > 0,
  "/shell": () => require("child_process").execSync("echo from a shell").toString(),
};
http.createServer((request, response) => {
  let body;
  try { body = String(answers[request.url]()); } catch (error) { body = String(error); }
  response.end(body);
}).listen(8080);
"#;

const PROGRAMS: [Program; 3] = [
    Program {
        name: "go",
        one_stage: "FROM golang:1.26\nWORKDIR /src\nCOPY . .\nRUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /server .\nUSER 65532:65532\nENTRYPOINT [\"/server\"]\n",
        by_hand: "FROM golang:1.26 AS build\nWORKDIR /src\nCOPY . .\nRUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /server .\nFROM scratch\n\
            COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/\nCOPY --from=build /usr/share/zoneinfo /usr/share/zoneinfo\n\
            COPY --from=build /etc/passwd /etc/group /etc/\nCOPY --from=build /src/template.txt /src/\nCOPY --from=build /server /\nUSER 65532:65532\nENTRYPOINT [\"/server\"]\n",
        files: &[
            ("main.go", GO),
            ("go.mod", "module example.com/server\n\ngo 1.26\n"),
            ("template.txt", "a template"),
        ],
        asks: &["healthz", "zone", "roots", "user", "host", "source"],
        most: 110,
    },
    Program {
        name: "python",
        one_stage: "FROM python:3.11\nWORKDIR /app\nCOPY . .\nUSER 65532:65532\nCMD [\"python3\", \"server.py\"]\n",
        by_hand: "FROM python:3.11-slim\nWORKDIR /app\nCOPY . .\nUSER 65532:65532\nCMD [\"python3\", \"server.py\"]\n",
        files: &[("server.py", PYTHON), ("templates/report.txt", "a report")],
        asks: &[
            "healthz", "zone", "roots", "host", "locale", "sqlite", "shell", "template", "modules",
        ],
        most: 115,
    },
    Program {
        name: "node",
        one_stage: "FROM node:18\nWORKDIR /app\nCOPY . .\nUSER 65532:65532\nCMD [\"node\", \"server.js\"]\n",
        by_hand: "FROM node:18-slim\nWORKDIR /app\nCOPY . .\nUSER 65532:65532\nCMD [\"node\", \"server.js\"]\n",
        files: &[
            ("server.js", NODE),
            ("lib/lazy.js", "exports.hello = () => \"hello, late\";\n"),
            ("templates/report.txt", "a report"),
        ],
        asks: &[
            "healthz", "zone", "intl", "roots", "module", "template", "zip", "shell",
        ],
        most: 115,
    },
];

fn files(program: &Program, dockerfile: &str) -> Value {
    let mut files = json!({"Dockerfile": dockerfile});
    for (name, text) in program.files {
        files[*name] = json!(text);
    }
    files
}

fn minimized(status: &ImageBuildStatus) -> &whittle_api::MinimizedStatus {
    status.minimized.as_ref().expect("it was to be minimized")
}

/// Runs an image as a restricted Pod, and gives what it answers.
async fn answers(field: &Field, name: &str, image: &str, asks: &[&str]) -> Vec<String> {
    field
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": image,
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}}}))
        .await;
    let mut found = Vec::new();
    for ask in asks {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{name}:8080/proxy/{ask}",
            field.namespace
        );
        let answer = field
            .until(&format!("{name} answers {ask}"), async || {
                let output = Command::new("kubectl")
                    .args(["get", "--raw", &path])
                    .output()
                    .unwrap();
                output
                    .status
                    .success()
                    .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
            })
            .await;
        found.push(answer);
    }
    found
}

#[tokio::test]
async fn images_of_one_stage_are_pushed_without_their_toolchains_and_answer_as_before() {
    let mut field = Field::new("minimize").await;
    // Nine builds, of which three compile a whole standard library.
    field.patience = if long::whole() { 8 } else { 3 } * PATIENCE;
    let check = json!({"httpGet": {"path": "/healthz", "port": 8080}, "timeoutSeconds": 60});
    // Of Node.js, and a second time, where tables are whole: each image of one stage takes minutes on a small machine.
    let programs = match long::whole() {
        true => &PROGRAMS[..],
        false => &PROGRAMS[..2],
    };
    for program in programs {
        let (full, small, hand) = names(program);
        let one_stage = || files(program, program.one_stage);
        field.build(&full, one_stage(), json!({})).await;
        let by_hand = files(program, program.by_hand);
        field.build(&hand, by_hand, json!({})).await;
        let mut spec = json!({"minimize": {"mode": "Apply"}, "healthCheck": check});
        field.build(&small, one_stage(), spec.clone()).await;
        if long::whole() {
            let exercise =
                |ask: &&str| json!({"httpGet": {"path": format!("/{ask}"), "port": 8080}});
            spec["minimize"]["exercise"] = program.asks.iter().map(exercise).collect();
            spec["minimize"]["trace"] = json!(true);
            field.build(&traced(program), one_stage(), spec).await;
        }
    }
    let mut table = String::from(
        "| program | as built | minimized | minimized, traced | by hand | against by hand |\n|---|---|---|---|---|---|\n",
    );
    for program in programs {
        let (full, small, hand) = names(program);
        let full = field.succeeds(&full).await;
        let hand = field.succeeds(&hand).await;
        let status = field.succeeds(&small).await;
        let told = minimized(&status);
        assert_eq!(told.outcome, MinimizeOutcome::Applied, "{told:#?}");
        assert_eq!(told.digest, status.digest);
        assert_ne!(told.full_digest, status.digest.clone().unwrap());
        let condition = find(&status.conditions, "Minimized").unwrap();
        assert_eq!(condition.status, "True", "{condition:#?}");
        let image = field.image(&small);
        assert_eq!(
            manifest(&image, "latest").await.0,
            status.digest.clone().unwrap()
        );
        // The full one can still be pulled.
        assert!(find_manifest(&image, &told.full_digest).await.is_some());
        let name = format!("{}-full", program.name);
        let expected = answers(&field, &name, full.image.as_deref().unwrap(), program.asks);
        let found = answers(
            &field,
            program.name,
            status.image.as_deref().unwrap(),
            program.asks,
        );
        let (expected, found) = tokio::join!(expected, found);
        for ((ask, expected), found) in program.asks.iter().zip(&expected).zip(&found) {
            assert_eq!(found, expected, "{}: {ask}", program.name);
        }
        let sizes = [&full, &status, &hand].map(|status| status.size.unwrap());
        let percent = sizes[1] * 100 / sizes[2];
        let traced = match long::whole() {
            true => {
                let traced = field.succeeds(&traced(program)).await;
                assert_eq!(minimized(&traced).outcome, MinimizeOutcome::Applied);
                traced.display_size.unwrap_or_default()
            }
            false => String::new(),
        };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {traced} | {} | {percent} % |",
            program.name,
            full.display_size.as_deref().unwrap_or_default(),
            status.display_size.as_deref().unwrap_or_default(),
            hand.display_size.as_deref().unwrap_or_default(),
        );
        assert!(
            percent <= program.most,
            "{}: {percent} %\n{table}",
            program.name
        );
        // Without it, there is a hint where at least half of the files' bytes would go, which is not half of what is stored.
        let advice = find(&full.conditions, "Advice").map(|it| it.message.clone());
        let hinted = advice
            .as_deref()
            .is_some_and(|it| it.contains("never reached"));
        if sizes[1] * 3 <= sizes[0] || sizes[1] * 2 > sizes[0] {
            let expected = sizes[1] * 3 <= sizes[0];
            assert_eq!(hinted, expected, "{}: {sizes:?}: {advice:?}", program.name);
        }
    }
    let target = format!(
        "{}/target/{}",
        env!("CARGO_MANIFEST_DIR"),
        long::file("minimize")
    );
    std::fs::write(target, &table).unwrap();
    println!("{table}");
    if !long::whole() {
        field.close().await;
        return;
    }
    // The same image once more is the same smaller image, and no tag is written again.
    let before = field.succeeds("node-small").await;
    field.request("node-small").await;
    let again = field.succeeds_again("node-small", 2).await;
    assert_eq!(again.digest, before.digest);
    field.close().await;
}

fn traced(program: &Program) -> String {
    format!("{}-traced", program.name)
}

fn names(program: &Program) -> (String, String, String) {
    let name = |kind: &str| format!("{}-{kind}", program.name);
    (name("full"), name("small"), name("hand"))
}

/// Reads a file of the base whose name no text has.
const LATE: &str = r#"package main

import (
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	folder := strings.Join([]string{"", "usr", "share", "common-" + os.Getenv("WHAT")}, "/")
	if len(os.Args) > 1 {
		if _, err := os.ReadFile(folder + "/Apache-2.0"); err != nil {
			log.Fatal(err)
		}
		return
	}
	path := folder + "/GPL-3"
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		text, err := os.ReadFile(path)
		if err != nil {
			log.Println(err)
			http.Error(w, err.Error(), 500)
			return
		}
		w.Write(text)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
"#;

#[tokio::test]
async fn what_nobody_can_know_is_found_by_the_health_check_and_the_full_image_used() {
    let mut field = Field::new("minimizefull").await;
    field.patience = 2 * PATIENCE;
    let dockerfile = "FROM golang:1.26\nWORKDIR /src\nCOPY main.go go.mod ./\nRUN CGO_ENABLED=0 go build -o /server .\nENV WHAT=licenses\nUSER 65532:65532\nENTRYPOINT [\"/server\"]\n";
    let files = json!({"Dockerfile": dockerfile, "main.go": LATE, "go.mod": "module example.com/late\n\ngo 1.26\n"});
    let spec = |change: Value| {
        let mut minimize = json!({"mode": "Apply"});
        json_patch::merge(&mut minimize, &change);
        json!({"minimize": minimize, "healthCheck": {"httpGet": {"path": "/", "port": 8080}, "timeoutSeconds": 15}})
    };
    field.build("late", files.clone(), spec(json!({}))).await;
    let status = field.succeeds("late").await;
    let told = minimized(&status);
    assert_eq!(told.outcome, MinimizeOutcome::FullUsed, "{told:#?}");
    assert_eq!(Some(&told.full_digest), status.digest.as_ref());
    let condition = find(&status.conditions, "Minimized").unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("False", "NotReady")
    );
    let tag = manifest(&field.image("late"), "latest").await.0;
    assert_eq!(tag, told.full_digest);
    assert!(told.message.contains("common-licenses"), "{told:#?}");
    // What the full image holds was read back: a whole distribution.
    let contents = status.platforms[0].contents.as_ref().unwrap();
    assert!(contents.shell && contents.programs.is_some());
    if !long::whole() {
        field.close().await;
        return;
    }
    // Another Dockerfile that gives the same image: nobody tries it again.
    let mut same = files.clone();
    same["Dockerfile"] = json!(format!("# The same.\n{dockerfile}"));
    field.build("late", same, spec(json!({}))).await;
    let again = field.succeeds_again("late", 2).await;
    assert_eq!(again.digest, status.digest);
    let known = minimized(&again);
    assert_eq!(known.outcome, MinimizeOutcome::FullUsed);
    assert!(known.message.starts_with("not tried again"), "{known:#?}");
    // What is kept by name is there.
    let keep = json!({"keep": ["/usr/share/common-licenses/**"]});
    field.build("late", files.clone(), spec(keep)).await;
    let kept = field.succeeds("late").await;
    assert_eq!(
        minimized(&kept).outcome,
        MinimizeOutcome::Applied,
        "{:#?}",
        kept.minimized
    );
    let found = files_of(&field.image("late"), kept.digest.as_deref().unwrap()).await;
    assert!(found.contains_key("usr/share/common-licenses/GPL-3"));
    assert!(!found.contains_key("usr/local/go/bin/go"));
    // Where the full one is not wanted, the build fails, and no tag is there.
    field
        .build("fails", files, spec(json!({"onFailure": "Fail"})))
        .await;
    let failure = field
        .until("the build has failed", async || {
            let build = field
                .api::<whittle_api::ImageBuild>()
                .get("fails")
                .await
                .unwrap();
            build.status?.failure
        })
        .await;
    assert_eq!(failure.reason, HealthCheckFailed, "{failure:#?}");
    assert!(failure.message.contains("smaller image"), "{failure:#?}");
    assert!(
        find_manifest(&field.image("fails"), "latest")
            .await
            .is_none()
    );
    field.close().await;
}

#[tokio::test]
async fn what_an_image_was_seen_to_ask_for_is_kept_and_the_smaller_one_is_held_to_exercises() {
    let mut field = Field::new("minimizetrace").await;
    field.patience = 3 * PATIENCE;
    let dockerfile = "FROM golang:1.26\nWORKDIR /src\nCOPY main.go go.mod ./\nRUN CGO_ENABLED=0 go build -o /server .\nENV WHAT=licenses\nUSER 65532:65532\nENTRYPOINT [\"/server\"]\n";
    let files = json!({"Dockerfile": dockerfile, "main.go": LATE, "go.mod": "module example.com/late\n\ngo 1.26\n"});
    let exercise = json!([{"httpGet": {"path": "/", "port": 8080}}, {"exec": {"command": ["/server", "selftest"]}}]);
    let spec = |trace: bool| {
        let minimize = json!({"mode": "Apply", "trace": trace, "exercise": exercise});
        json!({"minimize": minimize, "healthCheck": {"tcpSocket": {"port": 8080}, "timeoutSeconds": 30}})
    };
    let mut seen = spec(true);
    seen["debug"] = json!({"full": true});
    // The smaller one keeps it alone.
    seen["contract"] = json!({"enforce": ["NoPackageManager"]});
    field.build("seen", files.clone(), seen).await;
    let status = field.succeeds("seen").await;
    let told = minimized(&status);
    let debug = manifest(&field.image("seen"), "latest-debug").await.0;
    assert_eq!(debug, told.full_digest);
    assert_eq!(told.outcome, MinimizeOutcome::Applied, "{told:#?}");
    let found = files_of(&field.image("seen"), status.digest.as_deref().unwrap()).await;
    for file in ["GPL-3", "Apache-2.0"] {
        let path = format!("usr/share/common-licenses/{file}");
        assert!(found.contains_key(&path), "{path}");
    }
    // Nobody has asked for that one.
    assert!(!found.contains_key("usr/share/common-licenses/MPL-2.0"));
    assert!(!found.contains_key("usr/local/go/bin/go"));
    // Without a trace the exercise finds it.
    field.build("unseen", files, spec(false)).await;
    let status = field.succeeds("unseen").await;
    let told = minimized(&status);
    assert_eq!(told.outcome, MinimizeOutcome::FullUsed, "{told:#?}");
    let words = "exercise[0] (GET / on port 8080) failed: answered 500";
    assert!(told.message.contains(words), "{told:#?}");
    field.close().await;
}

#[tokio::test]
async fn what_could_go_is_only_said_where_that_is_asked() {
    let mut field = Field::new("minimizesay").await;
    field.patience = 3 * PATIENCE;
    let dockerfile = "FROM golang:1.26\nWORKDIR /src\nCOPY . .\nRUN go build -o /server .\nENTRYPOINT [\"/server\"]\n";
    let program = &PROGRAMS[0];
    let files = files(program, dockerfile);
    field
        .build("said", files, json!({"minimize": {"mode": "Suggest"}}))
        .await;
    let scratch = json!({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"});
    field
        .build("little", scratch, json!({"minimize": {"mode": "Suggest"}}))
        .await;
    let status = field.succeeds("said").await;
    let told = minimized(&status);
    assert_eq!(told.outcome, MinimizeOutcome::Suggested, "{told:#?}");
    assert!(
        told.message.contains("never reached from /server"),
        "{told:#?}"
    );
    let paths: Vec<&str> = told.left.iter().map(|it| it.path.as_str()).collect();
    assert!(paths.contains(&"/usr/local/go"), "{paths:?}");
    assert_eq!(Some(&told.full_digest), status.digest.as_ref());
    let little = field.succeeds("little").await;
    assert_eq!(minimized(&little).outcome, MinimizeOutcome::TooLittle);
    field.close().await;
}
