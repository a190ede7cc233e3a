package docs

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// server is an API server of its own, on loopback, with nothing in it.
type server struct {
	url    string
	client *http.Client
	log    string
	ended  <-chan struct{}
}

// start runs etcd and kube-apiserver of CLUSTER_BIN until the test ends.
func start(t *testing.T) *server {
	bin := os.Getenv("CLUSTER_BIN")
	if bin == "" {
		t.Fatal("CLUSTER_BIN is not set: run `make test-docs`")
	}
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, name) }
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	known, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: known})
	for name, text := range map[string][]byte{
		"sa.key": private, "sa.pub": public, "tokens.csv": []byte("admin,admin,admin,system:masters\n"),
	} {
		if err := os.WriteFile(at(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ports := free(t, 3)
	etcd, peers := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	run(t, at("etcd.log"), filepath.Join(bin, "etcd"), "--data-dir", at("etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers,
		"--unsafe-no-fsync", "--log-level", "error")
	log := at("kube-apiserver.log")
	ended := run(t, log, filepath.Join(bin, "kube-apiserver"), "--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", ports[2],
		"--cert-dir", at("certs"), "--service-cluster-ip-range", "127.255.0.0/24", "--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", at("sa.pub"), "--service-account-signing-key-file", at("sa.key"), "--token-auth-file", at("tokens.csv"),
		"--authorization-mode", "RBAC", "--anonymous-auth=false", "--disable-admission-plugins", "ServiceAccount")
	s := &server{
		log: log, ended: ended,
		url: "https://127.0.0.1:" + ports[2],
		// Its certificate is made at its start, by itself, and nobody else is on this port.
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}},
	}
	s.until(t, func() bool {
		code, _, err := s.ask("GET", "/readyz", nil)
		return err == nil && code == http.StatusOK
	})
	return s
}

// until polls, and gives up after two minutes, or where the API server ends, with the end of its log.
func (s *server) until(t *testing.T, done func() bool) {
	patience := time.After(2 * time.Minute)
	for !done() {
		select {
		case <-time.After(100 * time.Millisecond):
			continue
		case <-s.ended:
		case <-patience:
		}
		text, _ := os.ReadFile(s.log)
		t.Fatalf("the API server is not ready: …%s", text[max(0, len(text)-2000):])
	}
}

// ask sends a request as administrator.
func (s *server) ask(method, path string, object any) (int, []byte, error) {
	body, err := json.Marshal(object)
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequest(method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer admin")
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, text, err
}

// dryRun is what the API server says of the object; nil where it accepts it. Unknown and repeated fields count.
func (s *server) dryRun(object map[string]any, plural string) error {
	path := "/apis/whittle.dev/v1alpha1/namespaces/default/" + plural + "?dryRun=All&fieldValidation=Strict"
	code, text, err := s.ask("POST", path, object)
	if err != nil || code == http.StatusCreated {
		return err
	}
	var status struct{ Message string }
	if err := json.Unmarshal(text, &status); err != nil {
		return fmt.Errorf("%d: %s", code, text)
	}
	return fmt.Errorf("%d: %s", code, status.Message)
}

// free is this many ports that nobody listens on.
func free(t *testing.T, count int) (ports []string) {
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

// run starts a program, which is killed when the test ends; the channel is closed once it has ended.
func run(t *testing.T, log, program string, arguments ...string) <-chan struct{} {
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = file, file
	if err := command.Start(); err != nil {
		t.Fatalf("%s cannot be started: %v", program, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
		file.Close()
	})
	return ended
}
