//! The rows of the table of smaller images: programs on the bases with which most people build, each of which needs something that
//! no header lists. Each prints what came of it, ends its output with the words `it ran`, and ends with 0.

/// One image.
pub struct Row {
    /// Of its ImageBuild and its Pods.
    pub name: &'static str,
    /// What its Dockerfile begins from.
    pub base: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The rest of its Dockerfile.
    pub rest: &'static str,
    /// Its program, in the file that the Dockerfile copies.
    pub file: (&'static str, &'static str),
    pub needs: Needs,
}

/// What it takes to make it smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// What can be read in the image.
    Static,
    /// A trace: without one its check shows that something is missing.
    Trace,
}

use Needs::{Static, Trace};

const GO: &str = "golang:1.26";
const GCC: &str = "gcc:12";
const PYTHON: &str = "python:3.11";
const NODE: &str = "node:18";
const DEBIAN: &str = "debian:12-slim";
const ALPINE: &str = "alpine:3.22";
const BUSYBOX: &str = "busybox:1.36";

const GO_STATIC: &str = "RUN CGO_ENABLED=0 go build -o /app main.go\nENTRYPOINT [\"/app\"]\n";
const GO_CGO: &str = "RUN CGO_ENABLED=1 go build -o /app main.go\nENTRYPOINT [\"/app\"]\n";
const C: &str = "RUN gcc -o /app main.c -ldl -lm\nENTRYPOINT [\"/app\"]\n";
const CXX: &str = "RUN g++ -o /app main.cc\nENTRYPOINT [\"/app\"]\n";
const PY: &str = "CMD [\"python3\", \"main.py\"]\n";
const JS: &str = "CMD [\"node\", \"main.js\"]\n";
const PERL: &str = "CMD [\"perl\", \"main.pl\"]\n";
const SH: &str = "CMD [\"sh\", \"main.sh\"]\n";
const BASH: &str = "CMD [\"bash\", \"main.sh\"]\n";

macro_rules! rows {
    ($($name:literal, $base:expr, $about:literal, $rest:expr, $file:literal, $needs:expr, $text:expr;)*) => {
        vec![$(Row { name: $name, base: $base, about: $about, rest: $rest, file: ($file, $text), needs: $needs }),*]
    };
}

/// All rows.
pub fn all() -> Vec<Row> {
    rows![
        "go-zones", GO, "time zones", GO_STATIC, "main.go", Static, r#"package main
import ("fmt"; "time")
func main() { for _, name := range []string{"Europe/Berlin", "Asia/Tokyo"} { zone, err := time.LoadLocation(name); fmt.Println(time.Unix(0, 0).In(zone), err) }; fmt.Println("it ran") }
"#;
        "go-roots", GO, "certificate authorities", GO_STATIC, "main.go", Static, r#"package main
import ("crypto/x509"; "fmt"; "os")
func main() { pool, err := x509.SystemCertPool(); n := len(pool.Subjects()); fmt.Println(n, err); if n == 0 { os.Exit(1) }; fmt.Println("it ran") }
"#;
        "go-users", GO, "users by the C library", GO_CGO, "main.go", Static, r#"package main
// #include <stdlib.h>
import "C"
import ("fmt"; "net"; "os/user")
func main() { C.abs(1); found, err := user.Lookup("nobody"); fmt.Println(found, err); hosts, err := net.LookupHost("localhost"); fmt.Println(len(hosts) > 0, err); fmt.Println("it ran") }
"#;
        "go-template", GO, "a template beside its source", GO_STATIC, "main.go", Static, r#"package main
import ("fmt"; "html/template"; "os")
func main() { page, err := template.ParseFiles("/src/main.go"); fmt.Println(page.Name(), err); _ = os.Stdout; fmt.Println("it ran") }
"#;
        "go-temporary", GO, "a file in /tmp, the home, mime types", GO_STATIC, "main.go", Static, r#"package main
import ("fmt"; "mime"; "os")
func main() { file, err := os.CreateTemp("", "x"); fmt.Println(file != nil, err); home, err := os.UserHomeDir(); fmt.Println(home, err); fmt.Println(mime.TypeByExtension(".webm")); fmt.Println("it ran") }
"#;
        "go-tool", GO, "a tool of the base, by a computed name in a compiled program", GO_STATIC, "main.go", Trace, r#"package main
import ("fmt"; "os"; "os/exec")
func main() { out, err := exec.Command("per"+os.Args[0][:0]+"l", "-e", "print 6 * 7").Output(); fmt.Println(string(out), err); if err != nil { os.Exit(1) }; fmt.Println("it ran") }
"#;
        "go-computed", GO, "a file of the base by a computed name", GO_STATIC, "main.go", Trace, r#"package main
import ("fmt"; "os"; "strings")
func main() { text, err := os.ReadFile(strings.Join([]string{"", "usr", "share", "common-" + strings.ToLower("LICENSES"), "GPL-3"}, "/")); fmt.Println(len(text), err); if err != nil { os.Exit(1) }; fmt.Println("it ran") }
"#;
        "c-mathematics", GCC, "libraries that its header lists", C, "main.c", Static, r#"#include <math.h>
#include <stdio.h>
int main(int n, char **words) { printf("%f\n", cos(n)); puts("it ran"); return 0; }
"#;
        "c-dlopen", GCC, "a library by its name", C, "main.c", Static, r#"#include <dlfcn.h>
#include <stdio.h>
int main(void) { void *z = dlopen("libz.so.1", RTLD_NOW); if (!z) { puts(dlerror()); return 1; } printf("%d\n", dlsym(z, "deflate") != 0); puts("it ran"); return 0; }
"#;
        "c-dlopen-computed", GCC, "a library by a computed name", C, "main.c", Trace, r#"#include <dlfcn.h>
#include <stdio.h>
int main(int n, char **words) { char name[64]; snprintf(name, sizeof name, "%s%s.so.%d", "li", n > 9 ? "bq" : "bz", n); void *z = dlopen(name, RTLD_NOW); if (!z) { puts(dlerror()); return 1; } puts("it ran"); return 0; }
"#;
        "c-users", GCC, "users, groups, hosts, services by NSS", C, "main.c", Static, r#"#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
int main(void) { struct passwd *p = getpwnam("nobody"); struct group *g = getgrgid(0); struct addrinfo *found = 0; int code = getaddrinfo("localhost", "80", 0, &found);
printf("%s %s %d %d\n", p ? p->pw_dir : "-", g ? g->gr_name : "-", code, getservbyname("https", "tcp") != 0); puts("it ran"); return !p || !g || code; }
"#;
        "c-iconv", GCC, "character sets", C, "main.c", Static, r#"#include <iconv.h>
#include <stdio.h>
int main(void) { iconv_t c = iconv_open("UTF-16LE", "ISO-8859-15"); if (c == (iconv_t)-1) { perror("iconv_open"); return 1; } char in[] = "\xa4", out[8]; char *i = in, *o = out; size_t a = 1, b = 8; iconv(c, &i, &a, &o, &b); printf("%zu\n", b); puts("it ran"); return 0; }
"#;
        "c-locale", GCC, "the locale C.UTF-8", C, "main.c", Static, r#"#include <locale.h>
#include <stdio.h>
#include <wctype.h>
int main(void) { char *set = setlocale(LC_ALL, "C.UTF-8"); printf("%s %d\n", set ? set : "-", iswalpha(0xe4) != 0); puts("it ran"); return !set; }
"#;
        "c-system", GCC, "a shell by system and popen", C, "main.c", Static, r#"#include <stdio.h>
#include <stdlib.h>
int main(void) { int code = system("echo from a shell"); char line[64] = ""; FILE *p = popen("echo read", "r"); if (!p || !fgets(line, sizeof line, p)) return 1; printf("%d %s", code, line); puts("it ran"); return code; }
"#;
        "c-zones", GCC, "local time", C, "main.c", Static, r#"#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int main(void) { time_t at = 0; char text[64]; setenv("TZ", "America/New_York", 1); tzset(); strftime(text, sizeof text, "%c %Z", localtime(&at)); puts(text); puts("it ran"); return text[0] == 0; }
"#;
        "cxx-exceptions", GCC, "the C++ runtime", CXX, "main.cc", Static, r#"#include <iostream>
#include <locale>
#include <regex>
#include <stdexcept>
#include <thread>
int main() { try { throw std::runtime_error("thrown"); } catch (const std::exception &error) { std::cout << error.what() << "\n"; } std::thread t([] { std::cout << std::regex_match("a1", std::regex("[a-z][0-9]")) << "\n"; }); t.join(); std::cout << "it ran" << std::endl; }
"#;
        "perl-modules", GCC, "Perl with modules that load late", PERL, "main.pl", Static, r#"use strict; use warnings; use POSIX (); use Time::Local;
for my $name (qw(Encode JSON::PP List::Util Digest::SHA MIME::Base64 Storable Text::Wrap)) { (my $file = "$name.pm") =~ s{::}{/}g; require $file; print "$name\n"; }
print POSIX::floor(2.5), " ", timegm(0, 0, 0, 1, 0, 100), " ", lc("\x{c4}"), "\n"; print "it ran\n";
"#;
        "python-lazy", PYTHON, "modules by computed names", PY, "main.py", Static, r#"import importlib
for name in ["asyncio", "ctypes", "curses", "dbm", "decimal", "email.mime.text", "encodings.cp1252", "hashlib", "lzma", "multiprocessing", "pydoc", "readline", "sqlite3", "ssl", "unittest", "uuid", "xml.etree.ElementTree", "zipfile"]:
    importlib.import_module(name); print(name)
print("it ran")
"#;
        "python-sqlite", PYTHON, "C extensions", PY, "main.py", Static, r#"import decimal, hashlib, sqlite3, ssl, zlib
print(sqlite3.connect(":memory:").execute("select 6 * 7, sqlite_version() > '3'").fetchone(), decimal.Decimal(1) / 3, hashlib.blake2b(b"x").hexdigest()[:8], zlib.crc32(b"x"), ssl.create_default_context().cert_store_stats()["x509"] > 0)
print("it ran")
"#;
        "python-zones", PYTHON, "time zones and locales", PY, "main.py", Static, r#"import datetime, locale, zoneinfo
print(datetime.datetime.fromtimestamp(0, zoneinfo.ZoneInfo("Asia/Kolkata")), locale.setlocale(locale.LC_ALL, "C.UTF-8"))
print("it ran")
"#;
        "python-ctypes", PYTHON, "a library by its name", PY, "main.py", Static, r#"import ctypes
print(ctypes.CDLL("libz.so.1").zlibCompileFlags() > 0)
print("it ran")
"#;
        "python-shell", PYTHON, "a shell", PY, "main.py", Static, r#"import os, subprocess
print(subprocess.run("echo from a shell", shell=True, capture_output=True, text=True).stdout, os.popen("echo read").read())
print("it ran")
"#;
        "python-tool", PYTHON, "a tool of the base by a computed name", PY, "main.py", Trace, r#"import subprocess
print(subprocess.run(["".join(["d", "p", "k", "g"]), "--print-architecture"], capture_output=True, text=True, check=True).stdout)
print("it ran")
"#;
        "python-processes", PYTHON, "processes and pickles", PY, "main.py", Static, r#"import multiprocessing, pickle
def double(number): return number * 2
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool: print(pool.map(double, [1, 2]), pickle.loads(pickle.dumps({"a": 1})))
    print("it ran")
"#;
        "node-require", NODE, "modules by computed names", JS, "main.js", Static, r#"for (const name of ["as" + "sert", "crypto", "dns", "http2", "os", "perf_hooks", "readline", "tls", "v8", "vm", "worker_threads", "zlib"]) { require(name); console.log(name); }
console.log(require("crypto").createHash("sha256").update("x").digest("hex").slice(0, 8), require("zlib").gzipSync("x").length > 0);
console.log("it ran");
"#;
        "node-intl", NODE, "languages and time zones", JS, "main.js", Static, r#"console.log(new Date(0).toLocaleString("de-DE", { timeZone: "Europe/Berlin" }), new Intl.NumberFormat("hi-IN").format(1234567.89), "ä".localeCompare("z", "sv"));
console.log("it ran");
"#;
        "node-shell", NODE, "a shell, and a worker", JS, "main.js", Static, r#"const { Worker, isMainThread, parentPort } = require("worker_threads");
if (isMainThread) { console.log(require("child_process").execSync("echo from a shell").toString()); new Worker(__filename).on("message", (word) => { console.log(word); console.log("it ran"); }); } else parentPort.postMessage("from a worker");
"#;
        "node-computed", NODE, "a tool of the base by a computed name", JS, "main.js", Trace, r#"console.log(require("child_process").execFileSync(["dp", "kg"].join(""), ["--print-architecture"]).toString());
console.log("it ran");
"#;
        "bash-tools", DEBIAN, "a script with tools", BASH, "main.sh", Static, r#"set -eu
printf 'b 2\na 1\n' | sort | awk '{ print $2 }' | sed 's/^/n/' | tr n N | tee /tmp/out | wc -l
for word in one two; do case $word in o*) basename "/x/$word" ;; *) dirname "/x/$word" ;; esac; done
date -u -d @0 +%Y; cut -c1 /tmp/out; echo it ran
"#;
        "bash-computed", DEBIAN, "a tool by a computed name", BASH, "main.sh", Trace, r#"set -eu
first=ba; second=se64
echo hello | "$first$second"
echo it ran
"#;
        "sh-alpine", ALPINE, "applets of busybox", SH, "main.sh", Static, r#"set -eu
printf 'b\na\n' | sort | head -n 1; echo text | sha256sum | cut -c1-8; id -u >/dev/null; echo it ran
"#;
        "sh-busybox", BUSYBOX, "applets of busybox", SH, "main.sh", Static, r#"set -eu
seq 3 | tail -n 1; echo text | md5sum | cut -c1-8; echo it ran
"#;
        "sh-sourced", DEBIAN, "a script that reads another one", "RUN echo 'greet() { echo \"hello, $1\"; }' >/usr/local/lib/greet.sh\nCMD [\"sh\", \"main.sh\"]\n", "main.sh", Static, r#"set -eu
. /usr/local/lib/greet.sh
greet you; echo it ran
"#;
    ]
}
