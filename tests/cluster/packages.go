package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Debian packages that the cluster uses from the system.
var systemPackages = []string{
	"ca-certificates", "gcc", "git", "iproute2", "iptables", "libc6-dev", "libseccomp-dev",
	"mmdebstrap", "mount", "nftables", "pkg-config", "util-linux",
}

// debs are used unpacked from the cache, not installed: installing docker-registry would also start
// it as a service, and the CNI plugins would be the machine's.
var debs = []string{"docker-registry", "containernetworking-plugins"}

// apt runs one apt command at a time and refreshes the package lists at most once.
type apt struct {
	mu      sync.Mutex
	updated bool
}

func (a *apt) env() []string { return append(os.Environ(), "DEBIAN_FRONTEND=noninteractive") }

func (a *apt) run(ctx context.Context, dir string, args ...string) error {
	cmd := command(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"}, args...)...)
	cmd.Dir, cmd.Env = dir, a.env()
	return runQuietly(cmd)
}

// withLists runs an apt command; if it fails, perhaps for want of fresh package lists, it fetches
// those and tries again.
func (a *apt) withLists(ctx context.Context, dir string, args ...string) error {
	err := a.run(ctx, dir, args...)
	if err == nil || a.updated {
		return err
	}
	if err := a.run(ctx, "", "update"); err != nil {
		return fmt.Errorf("refreshing the package lists: %w", err)
	}
	a.updated = true
	return a.run(ctx, dir, args...)
}

func missingPackages(more ...string) []string {
	var missing []string
	for _, p := range slices.Concat(systemPackages, more) {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${db:Status-Status}", p).Output()
		if err != nil || string(out) != "installed" {
			missing = append(missing, p)
		}
	}
	return missing
}

// installPackages installs what is missing and says what.
func installPackages(ctx context.Context, more []string) error {
	missing := missingPackages(more...)
	if len(missing) == 0 {
		fmt.Println("Debian packages: none is missing")
		return nil
	}
	fmt.Println("Debian packages: apt-get install", strings.Join(missing, " "))
	return (&apt{}).installMissing(ctx, more...)
}

func (a *apt) installMissing(ctx context.Context, more ...string) error {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		return errors.New("this machine has no dpkg: the local cluster needs Debian 12 or newer, or one of its kin")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	missing := missingPackages(more...)
	if len(missing) == 0 {
		return nil
	}
	err := a.withLists(ctx, "", append([]string{"install", "-y", "--no-install-recommends"}, missing...)...)
	if err != nil {
		return fmt.Errorf("installing %s: %w", strings.Join(missing, " "), err)
	}
	return nil
}

// download fetches packages into dir and returns their paths by package name.
func (a *apt) download(ctx context.Context, dir string, names ...string) (map[string]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := freshDir(dir); err != nil {
		return nil, err
	}
	// apt downloads as an unprivileged user where it can; the folder must let it in.
	if err := os.Chmod(dir, 0o777); err != nil {
		return nil, err
	}
	if err := a.withLists(ctx, dir, append([]string{"download"}, names...)...); err != nil {
		return nil, fmt.Errorf("downloading %s: %w", strings.Join(names, " "), err)
	}
	paths := map[string]string{}
	for _, name := range names {
		found, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("downloading %s: expected one file, found %d", name, len(found))
		}
		paths[name] = found[0]
	}
	return paths, nil
}

// debDir is the cache folder with the unpacked debs of this Debian release.
func debDir() string { return cacheDir("debian", suite()+"-1") }

func registryProgram() string { return filepath.Join(debDir(), "usr/bin/docker-registry") }
func cniDir() string          { return filepath.Join(debDir(), "usr/lib/cni") }

func (a *apt) unpackDebs(ctx context.Context) error {
	dir := debDir()
	if isDir(dir) {
		return nil
	}
	unlock, err := lock(ctx, dir+".lock", nil)
	if err != nil {
		return err
	}
	defer unlock()
	if isDir(dir) {
		return nil
	}
	paths, err := a.download(ctx, state("work", "debs"), debs...)
	if err != nil {
		return err
	}
	tmp := dir + ".building"
	if err := freshDir(tmp); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, p := range paths {
		if err := runQuietly(command(ctx, "dpkg-deb", "-x", p, tmp)); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dir)
}

// suite is the Debian release that packages and base images come from: the host's own.
func suite() string {
	data, _ := os.ReadFile("/etc/os-release")
	for _, line := range strings.Split(string(data), "\n") {
		if name, ok := strings.CutPrefix(line, "VERSION_CODENAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return "bookworm"
}
