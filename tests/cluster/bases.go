package main

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Images that people's Dockerfiles begin from, as the samples and the tests use them. Their tags say which
// release of Debian they are, so that one is fixed here, whatever the machine itself runs.
const baseSuite = "bookworm"

// The programs that Debian 12 has, under the names that the public images give them.
var bases = []image{
	{name: "distroless-static", repo: "distroless/static-debian12", tags: []string{"latest", "nonroot"}, recipe: "2", seconds: 5, make: makeDistroless},
	{name: "busybox", repo: "library/busybox", tags: []string{busyboxTag, "latest"}, recipe: "2", seconds: 3, make: makeBusybox},
	{name: "debian", repo: "library/debian", tags: []string{"12-slim", "12", "bookworm-slim", "bookworm", "latest"}, recipe: "1", seconds: 25, suite: baseSuite,
		debian: []string{"ca-certificates"}, make: makeDebian("debian", imageConfig{Cmd: []string{"bash"}}, nil)},
	{name: "node", repo: "library/node", tags: []string{"18", "18-bookworm"}, recipe: "1", seconds: 60, suite: baseSuite,
		debian: []string{"ca-certificates", "nodejs", "npm"}, make: makeDebian("node", nodeConfig, nodeLinks)},
	{name: "node-slim", repo: "library/node", tags: []string{"18-slim", "18-bookworm-slim"}, recipe: "1", seconds: 30, suite: baseSuite,
		debian: []string{"ca-certificates", "nodejs"}, make: makeDebian("node-slim", nodeConfig, nodeLinks)},
	{name: "python", repo: "library/python", tags: []string{"3.11", "3.11-bookworm"}, recipe: "1", seconds: 30, suite: baseSuite,
		debian: []string{"ca-certificates", "python3", "python3-pip", "python3-setuptools", "python3-venv", "python3-wheel"}, make: makeDebian("python", pythonConfig, pythonLinks)},
	{name: "python-slim", repo: "library/python", tags: []string{"3.11-slim", "3.11-slim-bookworm"}, recipe: "1", seconds: 30, suite: baseSuite,
		debian: []string{"ca-certificates", "python3", "python3-pip"}, make: makeDebian("python-slim", pythonConfig, pythonLinks)},
	{name: "gcc", repo: "library/gcc", tags: []string{"12", "12-bookworm"}, recipe: "1", seconds: 40, suite: baseSuite,
		debian: []string{"ca-certificates", "g++", "libc6-dev", "musl-tools"}, make: makeDebian("gcc", imageConfig{Cmd: []string{"bash"}}, nil)},
	{name: "rust", repo: "library/rust", tags: []string{"1.63", "1.63-bookworm", "1-bookworm"}, recipe: "1", seconds: 60, suite: baseSuite,
		debian: []string{"ca-certificates", "gcc", "libc6-dev", "rustc"}, make: makeDebian("rust", imageConfig{Cmd: []string{"bash"}}, nil)},
	{name: "sshd", repo: "e2e/git-over-ssh", tags: []string{"latest"}, recipe: "1", seconds: 25, suite: baseSuite,
		debian: []string{"git", "openssh-server"}, make: makeDebian("sshd", imageConfig{Cmd: []string{"sh"}}, nil)},
	{name: "distroless-base", repo: "distroless/base-debian12", tags: []string{"latest", "nonroot"}, recipe: "2", seconds: 6, suite: baseSuite, make: makeDistrolessBase},
	{name: "alpine", repo: "library/alpine", tags: []string{"3.22", "3", "latest"}, recipe: "2", seconds: 5, suite: baseSuite, make: makeAlpine},
}

var (
	debianPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	nodeConfig = imageConfig{Env: []string{debianPath, "NODE_VERSION=18"}, Cmd: []string{"node"}}
	nodeLinks  = map[string]string{"usr/local/bin/node": "/usr/bin/node"}
	// The public image's Python is its own, not the distribution's: pip may install into it.
	pythonConfig = imageConfig{Env: []string{debianPath, "PYTHON_VERSION=3.11"}, Cmd: []string{"python3"}}
	pythonLinks  = map[string]string{"usr/local/bin/python": "/usr/bin/python3", "usr/local/bin/python3": "/usr/bin/python3", "usr/local/bin/pip": "/usr/bin/pip3"}
)

// makeDebian makes an image of one Debian with a few links on top.
func makeDebian(name string, config imageConfig, links map[string]string) func(context.Context, *imageMaker, *imageWriter) error {
	return func(_ context.Context, _ *imageMaker, w *imageWriter) error {
		err := w.layer(func(l *layerTar) error {
			return copyRootfs(l, debianTar(name), func(h *tar.Header, _ func() []byte) bool {
				return !strings.HasSuffix(h.Name, "/EXTERNALLY-MANAGED") && !unneededByCompilers(h.Name)
			})
		})
		if err != nil {
			return err
		}
		if len(links) > 0 {
			err = w.layer(func(l *layerTar) error {
				for _, link := range slices.Sorted(maps.Keys(links)) {
					if err := l.symlink(link, links[link]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return err
		}
		if config.Env == nil {
			config.Env = []string{debianPath}
		}
		return w.finish(config, runtime.GOARCH)
	}
}

// unneededByCompilers tells the parts of compilers that are large and that no build here uses: link-time
// optimization, sanitizers, and Rust's crates for its own tests and macros.
func unneededByCompilers(name string) bool {
	base := path.Base(name)
	if base == "lto1" || strings.HasPrefix(base, "libtest-") || strings.HasPrefix(base, "libproc_macro-") {
		return strings.HasPrefix(name, "usr/lib/")
	}
	for _, sanitizer := range []string{"libasan.", "libhwasan.", "liblsan.", "libtsan.", "libubsan."} {
		if strings.HasPrefix(base, sanitizer) {
			return strings.HasPrefix(name, "usr/lib/")
		}
	}
	return false
}

// makeDistrolessBase follows gcr.io/distroless/base: static's files, glibc and OpenSSL; no shell.
func makeDistrolessBase(ctx context.Context, m *imageMaker, w *imageWriter) error {
	if err := distrolessLayer(ctx, m, w, "distroless-base"); err != nil {
		return err
	}
	paths, err := m.apt.download(ctx, state("work", "distroless-base-libc"), "libc6", "libssl3")
	if err != nil {
		return err
	}
	err = w.layer(func(l *layerTar) error {
		for _, name := range []string{"libc6", "libssl3"} {
			err := readDeb(ctx, paths[name], func(r io.Reader) error {
				return l.copyTar(r, func(h *tar.Header) bool { return !unwanted(h.Name) })
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.finish(distrolessConfig, runtime.GOARCH)
}

// makeAlpine follows Alpine where images notice it: musl and its loader, busybox for all programs, /etc/
// os-release. Its busybox is Debian's static one, which lacks adduser and addgroup: those are scripts.
func makeAlpine(ctx context.Context, m *imageMaker, w *imageWriter) error {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	root := state("work", "alpine", "root")
	paths, err := m.unpack(ctx, "alpine", root, "busybox-static", "musl", "ca-certificates")
	if err != nil {
		return err
	}
	applets, err := applets(ctx, root, "--list-full")
	if err != nil {
		return err
	}
	bundle, err := authorities(ctx, paths["ca-certificates"])
	if err != nil {
		return err
	}
	err = w.layer(func(l *layerTar) error {
		if err := l.copyFile("bin/busybox", filepath.Join(root, "bin/busybox"), 0o755); err != nil {
			return err
		}
		for _, applet := range applets {
			if err := l.symlink(applet, "/bin/busybox"); err != nil {
				return err
			}
		}
		musl := "lib/ld-musl-" + arch + ".so.1"
		if err := l.copyFile(musl, filepath.Join(root, "lib", arch+"-linux-musl", "libc.so"), 0o755); err != nil {
			return err
		}
		if err := l.symlink("lib/libc.musl-"+arch+".so.1", "ld-musl-"+arch+".so.1"); err != nil {
			return err
		}
		err := l.texts(map[string]string{
			"etc/passwd":           "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
			"etc/group":            "root:x:0:root\nnobody:x:65534:\n",
			"etc/shadow":           "root:*::0:::::\nnobody:!::0:::::\n",
			"etc/alpine-release":   "3.22.0\n",
			"etc/os-release":       "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.22.0\nPRETTY_NAME=\"Alpine Linux v3.22\"\nHOME_URL=\"https://alpinelinux.org/\"\n",
			"etc/ssl/cert.pem":     bundle,
			"etc/profile":          "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
			"etc/nsswitch.conf":    "hosts: files dns\n",
			"lib/apk/db/installed": "P:busybox\nV:1.35.0\n\nP:musl\nV:1.2.3\n",
		})
		if err != nil {
			return err
		}
		if err := l.file("usr/sbin/addgroup", 0o755, []byte(addgroup)); err != nil {
			return err
		}
		if err := l.file("usr/sbin/adduser", 0o755, []byte(adduser)); err != nil {
			return err
		}
		if err := l.dir("root", 0o700, 0); err != nil {
			return err
		}
		if err := l.dir("home", 0o755, 0); err != nil {
			return err
		}
		return l.dir("tmp", 0o1777, 0)
	})
	if err != nil {
		return err
	}
	return w.finish(imageConfig{Env: []string{debianPath}, Cmd: []string{"/bin/sh"}}, runtime.GOARCH)
}

// addgroup and adduser know the options of busybox's own that Dockerfiles use.
const addgroup = `#!/bin/sh
# addgroup [-g GID] [-S] [USER] GROUP
set -e
gid= next=1000
while getopts g:S option; do
  case $option in g) gid=$OPTARG ;; S) next=100 ;; *) exit 1 ;; esac
done
shift $((OPTIND - 1))
if [ $# -eq 2 ]; then
  sed -i "/^$2:/{s/:\$/:$1/;t;s/\$/,$1/}" /etc/group
  exit
fi
if grep -q "^$1:" /etc/group; then echo "addgroup: group '$1' in use" >&2; exit 1; fi
if [ -z "$gid" ]; then
  gid=$next
  while grep -q "^[^:]*:[^:]*:$gid:" /etc/group; do gid=$((gid + 1)); done
fi
echo "$1:x:$gid:" >>/etc/group
`

const adduser = `#!/bin/sh
# adduser [-h DIR] [-g GECOS] [-s SHELL] [-G GROUP] [-S] [-D] [-H] [-u UID] USER
set -e
home= gecos= shell=/bin/sh group= uid= next=1000 make=1
while getopts h:g:s:G:SDHu:k: option; do
  case $option in
    h) home=$OPTARG ;; g) gecos=$OPTARG ;; s) shell=$OPTARG ;; G) group=$OPTARG ;;
    S) next=100 shell=/sbin/nologin ;; H) make= ;; u) uid=$OPTARG ;; D | k) ;; *) exit 1 ;;
  esac
done
shift $((OPTIND - 1))
if grep -q "^$1:" /etc/passwd; then echo "adduser: user '$1' in use" >&2; exit 1; fi
if [ -z "$uid" ]; then
  uid=$next
  while grep -q "^[^:]*:[^:]*:$uid:" /etc/passwd; do uid=$((uid + 1)); done
fi
if [ -z "$group" ]; then
  group=$1
  grep -q "^$group:" /etc/group || echo "$group:x:$uid:" >>/etc/group
fi
gid=$(sed -n "s/^$group:[^:]*:\([0-9]*\):.*/\1/p" /etc/group)
[ -n "$gid" ] || { echo "adduser: unknown group $group" >&2; exit 1; }
home=${home:-/home/$1}
echo "$1:x:$uid:$gid:$gecos:$home:$shell" >>/etc/passwd
echo "$1:!:20000:0:99999:7:::" >>/etc/shadow
if [ -n "$make" ]; then mkdir -p "$home" && chown "$uid:$gid" "$home"; fi
`

// authorities is the bundle of the certificates in the package ca-certificates.
func authorities(ctx context.Context, deb string) (string, error) {
	certificates := map[string][]byte{}
	err := readDeb(ctx, deb, func(r io.Reader) error { return collect(r, ".crt", certificates) })
	if err != nil {
		return "", err
	}
	if len(certificates) == 0 {
		return "", fmt.Errorf("the package ca-certificates holds no certificate: %s", filepath.Base(deb))
	}
	return bundleOf(certificates), nil
}
