package main

import (
	"crypto/subtle"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"
)

const gitUser = "builder"

func gitPasswordFile() string { return state("git-password") }

// serveGit serves the bare repositories of the git folder over smart HTTP. Those under private/ need
// a name and a password.
func serveGit() error {
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return fmt.Errorf("asking git where its programs are: %w", err)
	}
	backend := &cgi.Handler{
		Path: path.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Root: "/",
		Env: []string{
			"GIT_PROJECT_ROOT=" + state("git"), "GIT_HTTP_EXPORT_ALL=1",
			// The repositories belong to whoever made them on the host. And nobody pushes over HTTP.
			"GIT_CONFIG_COUNT=5",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
			"GIT_CONFIG_KEY_1=http.receivepack", "GIT_CONFIG_VALUE_1=false",
			"GIT_CONFIG_KEY_2=uploadpack.allowFilter", "GIT_CONFIG_VALUE_2=true",
			"GIT_CONFIG_KEY_3=uploadpack.allowReachableSHA1InWant", "GIT_CONFIG_VALUE_3=true",
			"GIT_CONFIG_KEY_4=uploadpack.allowAnySHA1InWant", "GIT_CONFIG_VALUE_4=true",
		},
		InheritEnv: []string{"PATH", "HOME"},
		Logger:     log.New(os.Stderr, "git server: ", log.LstdFlags),
	}
	password, err := os.ReadFile(gitPasswordFile())
	if err != nil {
		return err
	}
	return serve("git server", nodeIP+":"+gitPort, gitHandler(backend, strings.TrimSpace(string(password))), logPath("git-access"))
}

// gitHandler lets requests for private repositories through only with the password: those of the samples
// have one that stands in the samples.
func gitHandler(next http.Handler, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		clean := path.Clean("/" + r.URL.Path)
		ofSamples := within(clean, "/samples/private")
		if ofSamples || within(clean, "/private") {
			wanted := password
			if ofSamples {
				wanted = samplesPassword
			}
			user, given, ok := r.BasicAuth()
			if !ok || user != gitUser || subtle.ConstantTimeCompare([]byte(given), []byte(wanted)) != 1 {
				w.Header().Set("WWW-Authenticate", `Basic realm="private repositories"`)
				http.Error(w, "a user name and password are needed", http.StatusUnauthorized)
				return
			}
		}
		r.URL.Path = clean
		next.ServeHTTP(w, r)
	})
}

// serveModules serves a folder laid out like GOMODCACHE/cache/download as a Go module proxy.
func serveModules() error {
	return serve("module proxy", nodeIP+":"+modulesPort, modulesHandler(http.FileServer(http.Dir(state("goproxy")))), logPath("modules-access"))
}

// serveStandIns answers for a cloud's metadata service, at its address, and for a server outside of the cluster: what a
// build step must not reach, and what it may.
func serveStandIns() error {
	for _, address := range []string{metadataIP, outsideIP} {
		says := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "this is", address) })
		if err := serve("stand-in", address+":80", says, logPath("stand-in-access")); err != nil {
			return err
		}
	}
	return nil
}

// modulesHandler lets requests for private packages through only with the samples' token, as npm gives it.
func modulesHandler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if within(path.Clean("/"+r.URL.Path), "/private") && r.Header.Get("Authorization") != "Bearer "+samplesToken {
			http.Error(w, "a token is needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func within(clean, folder string) bool {
	return clean == folder || strings.HasPrefix(clean, folder+"/")
}

// serve runs an HTTP server that writes one line a request: time, client, method, path, status.
func serve(name, address string, handler http.Handler, accessLog string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	file, err := os.OpenFile(accessLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
			method, target := r.Method, r.URL.RequestURI()
			handler.ServeHTTP(seen, r)
			fmt.Fprintf(file, "%s %s %s %s %d\n", time.Now().UTC().Format(time.RFC3339Nano), r.RemoteAddr, method, target, seen.status)
		}),
	}
	go func() { fmt.Fprintln(os.Stderr, name, server.Serve(l)) }()
	return nil
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
