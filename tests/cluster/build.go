package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"
)

// A family is one go.mod under components/: programs that share their dependencies and are built
// together. Families are kept apart so that their dependencies do not pull at each other.
type family struct {
	name     string
	programs []string          // what it yields, by final name
	rename   map[string]string // what `go build` calls it -> final name
	cgo      bool
	ownMain  bool // built from a main.go of ours beside the go.mod, not from its tool lines
	noDemo   bool // the demo does without it, and is not kept waiting
	tags     string
	ldflags  string
	version  string // the module whose version Kubernetes' programs report as theirs
	seconds  int    // on two cores with nothing cached
}

const plainLdflags = "-s -w"

// The order is the order of building: what the cluster needs to start comes first, so that it starts
// while the rest is still being built.
var families = []family{
	{name: "etcd", programs: []string{"etcd"}, rename: map[string]string{"server": "etcd", "v3": "etcd"}, seconds: 40},
	{name: "kubernetes", programs: []string{"kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"}, version: "k8s.io/kubernetes", seconds: 400},
	{name: "containerd", programs: []string{"containerd", "containerd-shim-runc-v2", "ctr"}, seconds: 70},
	// Static, because the same program also serves inside the BuildKit image.
	{name: "runc", programs: []string{"runc"}, cgo: true, tags: "seccomp netgo osusergo",
		ldflags: plainLdflags + " -linkmode external -extldflags -static", seconds: 20},
	{name: "coredns", programs: []string{"coredns"}, ownMain: true, seconds: 60},
	{name: "buildkit", programs: []string{"buildctl", "buildkitd"}, seconds: 90},
	{name: "rootlesskit", programs: []string{"rootlessctl", "rootlesskit"}, seconds: 15},
	{name: "crane", programs: []string{"crane"}, seconds: 20},
	{name: "helm", programs: []string{"helm"}, seconds: 100},
	{name: "netpol", programs: []string{"netpol"}, ownMain: true, noDemo: true, seconds: 80},
}

// onDemand are built by the test that uses them, and by no start of a cluster.
var onDemand = []family{
	{name: "flux", programs: []string{"source-controller"}, seconds: 240},
	{name: "kueue", programs: []string{"kueue"}, seconds: 240},
	{name: "collector", programs: []string{"collector"}, ownMain: true, seconds: 90},
	// The peers of `make bench-peers`. All programs are linked into one folder: what they are called at home says too little there.
	{name: "buildx", programs: []string{"buildx"}, seconds: 90},
	{name: "shipwright", programs: []string{"shipwright-build-controller", "shipwright-git"}, rename: map[string]string{"git": "shipwright-git"}, seconds: 120},
	{name: "tekton", programs: []string{"tekton-controller", "tekton-entrypoint", "tekton-nop", "tekton-webhook", "tekton-workingdirinit"},
		rename: map[string]string{"controller": "tekton-controller", "entrypoint": "tekton-entrypoint", "nop": "tekton-nop",
			"webhook": "tekton-webhook", "workingdirinit": "tekton-workingdirinit"}, seconds: 180},
}

// familiesFor are those that a cluster with these images needs.
func familiesFor(wanted []image) []family {
	return slices.DeleteFunc(slices.Clone(families), func(f family) bool { return f.noDemo && !forTests(wanted) })
}

func familyOf(program string) (family, bool) {
	for _, f := range slices.Concat(families, onDemand) {
		for _, p := range f.programs {
			if p == program {
				return f, true
			}
		}
	}
	return family{}, false
}

// builder builds families of one checkout's components folder into the cache.
type builder struct {
	components string // tests/cluster/components of the checkout
	goVersion  string
}

func newBuilder(ctx context.Context, components string) (*builder, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot ask Go for its version: %w; install Go 1.26 or newer and put it on the PATH", err)
	}
	return &builder{components: components, goVersion: strings.TrimSpace(string(out))}, nil
}

// key names a build by everything that decides its bytes.
func (b *builder) key(f family) (string, error) {
	h := sha256.New()
	names := []string{"go.mod", "go.sum"}
	if f.ownMain {
		names = append(names, "main.go")
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(b.components, f.name, name))
		if err != nil {
			return "", fmt.Errorf("component %s: %w", f.name, err)
		}
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
	}
	fmt.Fprintln(h, b.goVersion, runtime.GOARCH, f.cgo, f.tags, f.ldflags, f.version, f.programs)
	return f.name + "-" + hex.EncodeToString(h.Sum(nil))[:16], nil
}

// dir is where the family's programs are, or will be once built.
func (b *builder) dir(f family) (string, error) {
	key, err := b.key(f)
	return cacheDir("components", key), err
}

func (b *builder) cached(f family) bool {
	dir, err := b.dir(f)
	return err == nil && isDir(dir)
}

// build makes the family's programs unless they are cached. It builds into a temporary folder and
// renames that, so an interrupted build never leaves half a program; a lock keeps two checkouts from
// building the same thing at once.
func (b *builder) build(ctx context.Context, f family) error {
	dir, err := b.dir(f)
	if err != nil {
		return err
	}
	if isDir(dir) {
		return b.link(f)
	}
	unlock, err := lock(ctx, dir+".lock", nil)
	if err != nil {
		return err
	}
	defer unlock()
	if isDir(dir) {
		return b.link(f)
	}
	tmp := dir + ".building"
	if err := freshDir(tmp); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	packages, err := b.packages(ctx, f)
	if err != nil {
		return err
	}
	ldflags := f.ldflags
	if ldflags == "" {
		ldflags = plainLdflags
	}
	if f.version != "" {
		stamp, err := b.stamp(f)
		if err != nil {
			return err
		}
		ldflags += stamp
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags}
	cgo := "CGO_ENABLED=0"
	if f.cgo {
		cgo = "CGO_ENABLED=1"
	}
	if f.tags != "" {
		args = append(args, "-tags", f.tags)
	}
	args = append(args, "-o", tmp+"/")
	cmd := command(ctx, "go", append(args, packages...)...)
	cmd.Dir = filepath.Join(b.components, f.name)
	cmd.Env = append(os.Environ(), cgo, "GOFLAGS=", "GOWORK=off")
	if err := runQuietly(cmd); err != nil {
		return fmt.Errorf("building %s: %w\n  next: (cd %s && go build %s) shows it alone", f.name, err, cmd.Dir, packages[0])
	}
	for from, to := range f.rename {
		if err := os.Rename(filepath.Join(tmp, from), filepath.Join(tmp, to)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, p := range f.programs {
		if _, err := os.Stat(filepath.Join(tmp, p)); err != nil {
			return fmt.Errorf("building %s yielded no program %q: %w", f.name, p, err)
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return b.link(f)
}

// packages are the `tool` lines of the family's go.mod.
func (b *builder) packages(ctx context.Context, f family) ([]string, error) {
	if f.ownMain {
		return []string{"."}, nil
	}
	cmd := command(ctx, "go", "mod", "edit", "-json")
	cmd.Dir = filepath.Join(b.components, f.name)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("reading %s/go.mod: %w", cmd.Dir, err)
	}
	var mod struct{ Tool []struct{ Path string } }
	if err := json.Unmarshal(out, &mod); err != nil {
		return nil, err
	}
	var packages []string
	for _, t := range mod.Tool {
		packages = append(packages, t.Path)
	}
	if len(packages) == 0 {
		return nil, fmt.Errorf("%s/go.mod has no tool line", cmd.Dir)
	}
	return packages, nil
}

// stamp is the linker flags that tell Kubernetes' programs their version, which clients and charts ask
// for. Their own build does the same.
func (b *builder) stamp(f family) (string, error) {
	data, err := os.ReadFile(filepath.Join(b.components, f.name, "go.mod"))
	if err != nil {
		return "", err
	}
	version, err := requiredVersion(string(data), f.version)
	if err != nil {
		return "", fmt.Errorf("%s/go.mod: %w", f.name, err)
	}
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	var flags strings.Builder
	for _, v := range [][2]string{{"gitVersion", version}, {"gitMajor", parts[0]}, {"gitMinor", parts[1]}, {"gitTreeState", "clean"}} {
		for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
			fmt.Fprintf(&flags, " -X %s.%s=%s", pkg, v[0], v[1])
		}
	}
	return flags.String(), nil
}

// requiredVersion finds the version of a module in a go.mod's text.
func requiredVersion(mod, module string) (string, error) {
	for _, line := range strings.Split(mod, "\n") {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && fields[0] == module && strings.Count(fields[1], ".") >= 2 && fields[1][0] == 'v' {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("it does not require %s", module)
}

// binDir is one folder with a link to every program of this set of versions.
func (b *builder) binDir() (string, error) {
	h := sha256.New()
	for _, f := range families {
		key, err := b.key(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, key)
	}
	return cacheDir("bin", hex.EncodeToString(h.Sum(nil))[:16]), nil
}

func (b *builder) link(f family) error {
	bin, err := b.binDir()
	if err != nil {
		return err
	}
	dir, err := b.dir(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	for _, p := range f.programs {
		target := filepath.Join(dir, p)
		if have, err := os.Readlink(filepath.Join(bin, p)); err == nil && have == target {
			continue
		}
		tmp := filepath.Join(bin, fmt.Sprintf(".%s.%d", p, os.Getpid()))
		os.Remove(tmp)
		if err := os.Symlink(target, tmp); err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(bin, p)); err != nil {
			return err
		}
	}
	return nil
}

// program is the path of one built program.
func (b *builder) program(name string) (string, error) {
	f, ok := familyOf(name)
	if !ok {
		return "", fmt.Errorf("no component is called %q; there are: %s", name, strings.Join(allPrograms(), " "))
	}
	dir, err := b.dir(f)
	return filepath.Join(dir, name), err
}

func allPrograms() []string {
	var all []string
	for _, f := range families {
		all = append(all, f.programs...)
	}
	sort.Strings(all)
	return all
}

// command is exec.CommandContext that ends the whole process group when the context ends, first
// gently, and that never outlives this program.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// runQuietly runs a command and, if it fails, returns the end of what it printed.
func runQuietly(cmd *exec.Cmd) error {
	var out bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, indentTail(out.String(), 15))
	}
	return nil
}

func indentTail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return "    " + strings.Join(all, "\n    ")
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func freshDir(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.MkdirAll(path, 0o755)
}

// lock takes an exclusive lock on a file, waiting for it; waiting() is called once if it must wait.
// The kernel gives the lock back when this process ends, however it ends.
func lock(ctx context.Context, path string, waiting func()) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
