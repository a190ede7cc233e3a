package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAProcessIsKnownByItsStartTime(t *testing.T) {
	fields := "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9"
	for stat, want := range map[string]uint64{
		"42 (init) " + fields:                               4711,
		"42 (a name) with (brackets)) " + fields:            4711,
		"42 (init) " + strings.Replace(fields, "S", "Z", 1): 0, // a zombie is gone
		"42 (init) S 1":                                     0,
		"":                                                  0,
	} {
		got, ok := parseStat(stat)
		if got != want || ok != (want != 0) {
			t.Errorf("%q: got %d, %v; want %d", stat, got, ok, want)
		}
	}
	if _, ok := processStart(os.Getpid()); !ok {
		t.Error("this process has no start time")
	}
}

func TestARecycledProcessNumberIsNotOurs(t *testing.T) {
	start, _ := processStart(os.Getpid())
	s := &sandbox{record: initRecord{PID: os.Getpid(), Start: start}}
	if !s.alive() {
		t.Error("this very process counts as gone")
	}
	s.record.Start++
	if s.alive() {
		t.Error("another process with the same number counts as ours")
	}
}

func TestTheVersionComesFromGoMod(t *testing.T) {
	mod := "module x\nrequire k8s.io/api v0.0.0\nrequire (\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\nreplace k8s.io/api => k8s.io/api v0.36.3\n"
	if got, err := requiredVersion(mod, "k8s.io/kubernetes"); err != nil || got != "v1.36.3" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := requiredVersion(mod, "k8s.io/nothing"); err == nil {
		t.Error("a module that is not required has a version")
	}
}

func TestEveryComponentHasItsModule(t *testing.T) {
	b, err := newBuilder(context.Background(), "components")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range slices.Concat(families, onDemand) {
		key, err := b.key(f)
		if err != nil {
			t.Error(err)
		}
		if seen[key] {
			t.Errorf("%s shares its key with another family", f.name)
		}
		seen[key] = true
		if _, err := b.packages(context.Background(), f); err != nil {
			t.Error(err)
		}
		if f.version != "" {
			if _, err := b.stamp(f); err != nil {
				t.Error(err)
			}
		}
	}
	for _, i := range images {
		for _, name := range i.uses {
			if !contains(families, func(f family) bool { return f.name == name }) {
				t.Errorf("the image %s uses %s, which is not a component", i.name, name)
			}
		}
	}
}

func TestTheDemoWaitsForNothingThatOnlyTestsNeed(t *testing.T) {
	for _, f := range families {
		isLater := contains(nodeComponents(), func(c component) bool { return c.later && c.name == f.name })
		if f.noDemo != isLater {
			t.Errorf("%s: noDemo is %t, and its component starts later: %t", f.name, f.noDemo, isLater)
		}
		if got := contains(familiesFor(demoImages), func(g family) bool { return g.name == f.name }); got == f.noDemo {
			t.Errorf("%s is among the demo's: %t", f.name, got)
		}
	}
	if len(familiesFor(images)) != len(families) {
		t.Error("tests lack a component")
	}
}

func contains[T any](all []T, match func(T) bool) bool {
	for _, v := range all {
		if match(v) {
			return true
		}
	}
	return false
}

func TestTheKeyChangesWithWhatDecidesTheProgram(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, "x", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("go.mod", "a")
	write("go.sum", "b")
	key := func(b *builder, f family) string {
		k, err := b.key(f)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	b, f := &builder{dir, "go1.26"}, family{name: "x"}
	first := key(b, f)
	if key(b, f) != first {
		t.Error("the same input has two keys")
	}
	if key(&builder{dir, "go1.27"}, f) == first || key(b, family{name: "x", tags: "y"}) == first {
		t.Error("another Go or another tag has the same key")
	}
	write("go.sum", "c")
	if key(b, f) == first {
		t.Error("another go.sum has the same key")
	}
}

func TestTheEnvironmentCanBeSourced(t *testing.T) {
	text := environment("/a checkout/it's/.cluster", "/bin dir")
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-euc", `. "$1"; . "$1"; printf '%s\n' "$KUBECONFIG" "$GIT_DIR" "$PATH"; env`, "sh", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	if lines[0] != "/a checkout/it's/.cluster/kubeconfig" || lines[1] != state("git") {
		t.Errorf("got %q", lines[:2])
	}
	if !strings.HasPrefix(lines[2], "/bin dir:") || strings.Count(lines[2], "/bin dir") != 1 {
		t.Errorf("PATH is %q", lines[2])
	}
	for _, l := range lines[3:] {
		if strings.HasPrefix(l, "GIT_DIR=") {
			t.Error("GIT_DIR is exported: git would take it as its own")
		}
	}
}

func TestPrivateRepositoriesNeedThePassword(t *testing.T) {
	served := ""
	h := gitHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { served = r.URL.Path }), "secret")
	for _, c := range []struct {
		path, user, password string
		want                 int
	}{
		{"/hello.git/info/refs", "", "", 200},
		{"/private-notes.git/info/refs", "", "", 200},
		{"/private/x.git/info/refs", "", "", 401},
		{"/private/x.git/info/refs", gitUser, "wrong", 401},
		{"/private/x.git/info/refs", "someone", "secret", 401},
		{"/private/x.git/info/refs", gitUser, "secret", 200},
		{"//private/x.git/info/refs", "", "", 401},
		{"/a/../private/x.git/info/refs", "", "", 401},
		{"/a/%2e%2e/private/x.git/info/refs", "", "", 401},
		{"/%2fprivate/x.git/info/refs", "", "", 401},
	} {
		served = ""
		r := httptest.NewRequest("GET", "http://git"+c.path, nil)
		if c.user != "" {
			r.SetBasicAuth(c.user, c.password)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want || (served != "") != (c.want == 200) {
			t.Errorf("%s as %q: %d, want %d", c.path, c.user, w.Code, c.want)
		}
	}
}

func TestOnlyPlacedClaimsOfOurClassGetAVolume(t *testing.T) {
	ours := func() claim {
		var c claim
		c.Spec.StorageClassName = storageClass
		c.Metadata.UID = "1234"
		c.Metadata.Annotations = map[string]string{"volume.kubernetes.io/selected-node": nodeName}
		return c
	}
	if !wantsVolume(ours()) {
		t.Error("a placed claim of ours gets nothing")
	}
	now := "2026-01-01T00:00:00Z"
	for name, change := range map[string]func(*claim){
		"another class": func(c *claim) { c.Spec.StorageClassName = "fast" },
		"not placed":    func(c *claim) { c.Metadata.Annotations = nil },
		"bound":         func(c *claim) { c.Spec.VolumeName = "pv" },
		"deleted":       func(c *claim) { c.Metadata.DeletionTimestamp = &now },
		"a raw device":  func(c *claim) { c.Spec.VolumeMode = "Block" },
	} {
		c := ours()
		change(&c)
		if wantsVolume(c) {
			t.Errorf("%s: gets a volume", name)
		}
	}
	// What the API server sends is read rightly.
	var c claim
	text := `{"metadata":{"name":"n","namespace":"ns","uid":"u","deletionTimestamp":"x"},"spec":{"storageClassName":"local","resources":{"requests":{"storage":"5Gi"}}}}`
	if err := json.Unmarshal([]byte(text), &c); err != nil || c.Metadata.DeletionTimestamp == nil || c.Spec.Resources.Requests["storage"] != "5Gi" || c.Metadata.UID != "u" {
		t.Errorf("read %+v, %v", c, err)
	}
}

func TestNothingOutsideTheVolumesFolderIsReclaimed(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "precious")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	var v volume
	v.Metadata.Annotations = map[string]string{provisionedBy: provisionerName}
	v.Status.Phase, v.Spec.PersistentVolumeReclaimPolicy = "Released", "Delete"
	v.Spec.Local = &struct{ Path string }{elsewhere}
	// A nil client: reaching the API server would panic.
	if err := reclaim(context.Background(), nil, v); err != nil {
		t.Error(err)
	}
	if !isDir(elsewhere) {
		t.Error("a folder that is not the provisioner's was removed")
	}
}

func TestAnImageHasTheSameDigestsEachTime(t *testing.T) {
	make := func() string {
		w := &imageWriter{dir: t.TempDir()}
		if err := os.Mkdir(filepath.Join(w.dir, "blobs"), 0o755); err != nil {
			t.Fatal(err)
		}
		err := w.layer(func(l *layerTar) error {
			return errors.Join(l.texts(map[string]string{"etc/b": "2", "etc/a": "1"}), l.dir("home/user", 0o755, 1000), l.symlink("bin/sh", "busybox"))
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.finish(imageConfig{User: "1000"}, "amd64", "arm64"); err != nil {
			t.Fatal(err)
		}
		index, err := os.ReadFile(filepath.Join(w.dir, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(index)
	}
	first := make()
	if !strings.Contains(first, `"architecture":"arm64"`) {
		t.Errorf("the index lacks a platform: %s", first)
	}
	time.Sleep(1100 * time.Millisecond) // a time stamp would show
	if make() != first {
		t.Error("the same files gave another index")
	}
}

func TestALayerKeepsFileCapabilitiesAndParents(t *testing.T) {
	var source, layer bytes.Buffer
	in := tar.NewWriter(&source)
	in.WriteHeader(&tar.Header{Name: "./usr/bin/newuidmap", Mode: 0o4755, Typeflag: tar.TypeReg, Size: 1, ModTime: time.Now()})
	in.Write([]byte("x"))
	in.WriteHeader(&tar.Header{Name: "./usr/share/doc/x", Typeflag: tar.TypeReg})
	in.Close()
	l := &layerTar{tar: tar.NewWriter(&layer), seen: map[string]bool{}}
	err := l.copyTar(&source, func(h *tar.Header) bool {
		h.Mode, h.PAXRecords = 0o755, fileCapability(7)
		return !unwanted(h.Name)
	})
	if err == nil {
		err = l.dir("home/user/.local", 0o755, 1000)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.tar.Close()
	var names []string
	for r := tar.NewReader(&layer); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Name == "usr/bin/newuidmap" {
			// cap_setuid+ep, as setcap writes it.
			want := "\x01\x00\x00\x02\x80\x00\x00\x00" + strings.Repeat("\x00", 12)
			if h.PAXRecords["SCHILY.xattr.security.capability"] != want || h.Mode != 0o755 {
				t.Errorf("newuidmap has mode %o and capability %q", h.Mode, h.PAXRecords["SCHILY.xattr.security.capability"])
			}
		}
	}
	if got := strings.Join(names, " "); got != "usr/bin/newuidmap home/ home/user/ home/user/.local/" {
		t.Errorf("the layer holds %s", got)
	}
}

func TestTasksRunInOrderAndTheFirstFailureEndsThem(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	order := make(chan string, 3)
	all := newTasks(context.Background(), null)
	first := all.run("first", nil, func(context.Context) error { time.Sleep(20 * time.Millisecond); order <- "first"; return nil })
	all.run("second", []*task{first}, func(context.Context) error { order <- "second"; return nil })
	if err := all.wait(); err != nil || <-order != "first" || <-order != "second" {
		t.Errorf("wrong order, or %v", err)
	}

	cause := errors.New("no disk")
	all = newTasks(context.Background(), null)
	bad := all.run("bad", nil, func(context.Context) error { return cause })
	all.run("never", []*task{bad}, func(context.Context) error { t.Error("it ran though what it needs failed"); return nil })
	all.run("long", nil, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	if err := all.wait(); !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), "bad: ") {
		t.Errorf("got %v", err)
	}
}

func TestALockIsHeldByOneAtATime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(context.Background(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer cancel()
	waited := false
	if _, err := lock(ctx, file, func() { waited = true }); err == nil || !waited {
		t.Errorf("the lock was taken twice (%v)", err)
	}
	unlock()
	if unlock, err = lock(context.Background(), file, nil); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestDurationsReadWell(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1234 * time.Millisecond: "1.2 s", 42 * time.Second: "42 s", 125 * time.Second: "2 min 05 s", 3601 * time.Second: "60 min 01 s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestTheSamplesNameTheDigestOfTheImageThatIsServed(t *testing.T) {
	samples := filepath.Join("..", "..", "config", "samples")
	dir := t.TempDir()
	if err := writeSampleImage(filepath.Join(samples, "sources", "images", "files"), dir); err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("samples/sources/files@sha256:%x", sha256.Sum256(index))
	for _, name := range []string{"copy-from.yaml", "tags.yaml"} {
		text, err := os.ReadFile(filepath.Join(samples, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not name %s", name, want)
		}
	}
}

func TestPrivateSourcesOfTheSamplesAskForTheirCredentials(t *testing.T) {
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	git, modules := gitHandler(ok, "another password"), modulesHandler(ok)
	for _, c := range []struct {
		handler       http.Handler
		path          string
		authorization string
		want          int
	}{
		{git, "/samples/hello.git/info/refs", "", 200},
		{git, "/samples/private/greet.git/info/refs", "", 401},
		{git, "/samples/../samples/private/greet.git/info/refs", "", 401},
		{git, "/samples/private/greet.git/info/refs", basic(gitUser, samplesPassword), 200},
		{git, "/samples/private/greet.git/info/refs", basic(gitUser, "another password"), 401},
		{git, "/private/x.git/info/refs", basic(gitUser, samplesPassword), 401},
		{modules, "/npm/a", "", 200},
		{modules, "/private/npm/a", "", 401},
		{modules, "/npm/../private/npm/a", "", 401},
		{modules, "/private/npm/a", "Bearer " + samplesToken, 200},
		{modules, "/private/npm/a", "Bearer x", 401},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://x/", nil)
		r.URL.Path = c.path
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s with %q: %d, want %d", c.path, c.authorization, w.Code, c.want)
		}
	}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestTheDemoMakesNoImageThatOnlyTestsUse(t *testing.T) {
	all, err := wantedImages(nil)
	if err != nil || len(all) != len(images) {
		t.Fatalf("up makes %d of %d images: %v", len(all), len(images), err)
	}
	demo, err := wantedImages([]string{"demo"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range demo {
		names = append(names, i.name)
	}
	if got := strings.Join(names, " "); got != "pause coredns golang buildkit" {
		t.Errorf("up demo makes %s", got)
	}
	// What its Dockerfile begins from is among them.
	dockerfile, err := os.ReadFile("../demo/hello/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(dockerfile), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "FROM" {
			continue
		}
		base := fields[1]
		if strings.HasPrefix(base, "--") {
			base = fields[2]
		}
		if base != "scratch" && !contains(demo, func(i image) bool {
			return contains(i.tags, func(tag string) bool { return "library/"+base == i.repo+":"+tag })
		}) {
			t.Errorf("the demo begins from %s, which up demo does not make", base)
		}
	}
	if _, err := wantedImages([]string{"dmeo"}); err == nil {
		t.Error("a misspelt set is taken")
	}
}
