package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// image is one image that is made here and served under its public name. Nothing is pulled: what
// Docker Hub and the others would give is put together from Debian packages, Go's own toolchain and
// the components.
type image struct {
	name    string
	repo    string // as the mirrors ask for it
	tags    []string
	recipe  string   // change it when make changes, or the cached image stays
	uses    []string // components whose versions are part of the recipe
	debian  []string // packages of the Debian that it starts from, if it does
	suite   string   // of that Debian; the machine's own where it is empty
	seconds int      // on two cores, while components are being built
	make    func(context.Context, *imageMaker, *imageWriter) error
}

// What the cluster itself and the demo need; `make demo` makes no others.
var demoImages = []image{
	{name: "pause", repo: "pause", tags: []string{pauseTag}, recipe: "1", uses: []string{"kubernetes"}, seconds: 1, make: makePause},
	{name: "coredns", repo: "coredns/coredns", tags: []string{coreDNSTag}, recipe: "1", uses: []string{"coredns"}, seconds: 2, make: makeCoreDNS},
	{name: "golang", repo: "library/golang", tags: []string{golangTag}, recipe: "1", seconds: 90, make: makeGolang,
		debian: []string{"ca-certificates", "gcc", "git", "libc6-dev", "make", "pkg-config"}},
	{name: "buildkit", repo: "moby/buildkit", tags: []string{buildkitTag}, recipe: "1", uses: []string{"buildkit", "rootlesskit", "runc"}, seconds: 40, make: makeBuildkit,
		debian: []string{"ca-certificates", "git", "openssh-client", "pigz", "uidmap", "xz-utils"}},
}

// All of them: what the samples and the tests begin from, too.
var images = slices.Concat(demoImages, bases)

// forTests tells the whole cluster from the demo's.
func forTests(wanted []image) bool { return len(wanted) == len(images) }

// imageFormat is part of every recipe: change it when what an imageWriter writes changes.
const imageFormat = "2"

type imageMaker struct {
	builder *builder
	apt     *apt
}

func (m *imageMaker) dir(i image) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, imageFormat, i.name, i.recipe, i.debian, i.tags, m.builder.goVersion, runtime.GOARCH, cmp.Or(i.suite, suite()))
	for _, name := range i.uses {
		for _, f := range families {
			if f.name == name {
				key, err := m.builder.key(f)
				if err != nil {
					return "", err
				}
				fmt.Fprintln(h, key)
			}
		}
	}
	return cacheDir("images", i.name+"-"+hex.EncodeToString(h.Sum(nil))[:16]), nil
}

func (m *imageMaker) cached(i image) bool {
	dir, err := m.dir(i)
	return err == nil && isDir(dir)
}

// ensure makes the image unless it is cached. Like a component it is written aside and renamed.
func (m *imageMaker) ensure(ctx context.Context, i image) error {
	dir, err := m.dir(i)
	if err != nil || isDir(dir) {
		return err
	}
	tmp := dir + ".building"
	if err := freshDir(filepath.Join(tmp, "blobs")); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := i.make(ctx, m, &imageWriter{dir: tmp}); err != nil {
		return fmt.Errorf("making the image %s: %w", i.repo, err)
	}
	return os.Rename(tmp, dir)
}

// makePause compiles the C source that Kubernetes ships for it.
func makePause(ctx context.Context, m *imageMaker, w *imageWriter) error {
	cmd := command(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	cmd.Dir = filepath.Join(m.builder.components, "kubernetes")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("looking for the source of Kubernetes: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "build/pause/linux/pause.c")
	program := state("work", "pause")
	if err := os.MkdirAll(state("work"), 0o755); err != nil {
		return err
	}
	if err := runQuietly(command(ctx, "gcc", "-Os", "-Wall", "-static", "-s", "-DVERSION="+pauseTag, "-o", program, source)); err != nil {
		return err
	}
	if err := w.layer(func(l *layerTar) error { return l.copyFile("pause", program, 0o755) }); err != nil {
		return err
	}
	return w.finish(imageConfig{User: "65535:65535", Entrypoint: []string{"/pause"}}, runtime.GOARCH)
}

func makeCoreDNS(ctx context.Context, m *imageMaker, w *imageWriter) error {
	program, err := m.builder.program("coredns")
	if err != nil {
		return err
	}
	if err := w.layer(func(l *layerTar) error { return l.copyFile("coredns", program, 0o755) }); err != nil {
		return err
	}
	return w.finish(imageConfig{User: "65532:65532", Entrypoint: []string{"/coredns"}, WorkingDir: "/"}, runtime.GOARCH)
}

// makeDistroless follows gcr.io/distroless/static: no shell, no libc, but certificates, time zones,
// users and a /tmp. It holds no machine code, so both platforms share its layers.
func makeDistroless(ctx context.Context, m *imageMaker, w *imageWriter) error {
	if err := distrolessLayer(ctx, m, w, "distroless-static"); err != nil {
		return err
	}
	return w.finish(distrolessConfig, "amd64", "arm64")
}

var distrolessConfig = imageConfig{
	User: "65532", WorkingDir: "/home/nonroot",
	Env: []string{debianPath, "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
}

// distrolessLayer makes the layer that both have, in a folder for the image's own: they are made side by side.
func distrolessLayer(ctx context.Context, m *imageMaker, w *imageWriter, image string) error {
	paths, err := m.apt.download(ctx, state("work", image), "base-files", "ca-certificates", "netbase", "tzdata")
	if err != nil {
		return err
	}
	bundle, err := authorities(ctx, paths["ca-certificates"])
	if err != nil {
		return err
	}
	return w.layer(func(l *layerTar) error {
		for _, p := range []string{"base-files", "netbase", "tzdata", "ca-certificates"} {
			err := readDeb(ctx, paths[p], func(r io.Reader) error {
				return l.copyTar(r, func(h *tar.Header) bool {
					return !unwanted(h.Name) && !strings.HasPrefix(h.Name, "usr/sbin") &&
						!strings.HasPrefix(h.Name, "usr/share/ca-certificates") && !strings.HasPrefix(h.Name, "usr/share/base-files")
				})
			})
			if err != nil {
				return err
			}
		}
		err := l.texts(map[string]string{
			"etc/passwd":        "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
			"etc/group":         "root:x:0:\nnobody:x:65534:\ntty:x:5:\nstaff:x:50:\nnonroot:x:65532:\n",
			"etc/nsswitch.conf": "hosts: files dns\n",
			// As the public image has it: it calls itself so.
			"usr/lib/os-release":                "PRETTY_NAME=\"Distroless\"\nNAME=\"Debian GNU/Linux\"\nID=\"debian\"\nVERSION_ID=\"12\"\nVERSION=\"Debian GNU/Linux 12 (bookworm)\"\n",
			"etc/ssl/certs/ca-certificates.crt": bundle,
		})
		if err != nil {
			return err
		}
		if err := l.dir("tmp", 0o1777, 0); err != nil {
			return err
		}
		return l.dir("home/nonroot", 0o700, 65532)
	})
}

// bundleOf puts certificates behind one another.
func bundleOf(certificates map[string][]byte) string {
	var bundle strings.Builder
	for _, n := range slices.Sorted(maps.Keys(certificates)) {
		bundle.Write(bytes.TrimRight(certificates[n], "\n"))
		bundle.WriteByte('\n')
	}
	return bundle.String()
}

// unpack downloads packages and unpacks them into a folder. It returns their files by name.
func (m *imageMaker) unpack(ctx context.Context, work, root string, packages ...string) (map[string]string, error) {
	paths, err := m.apt.download(ctx, state("work", work), packages...)
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		if err := runQuietly(command(ctx, "dpkg-deb", "-x", p, root)); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// applets are the names under which the busybox of a folder does its work; with --list-full with their folders.
func applets(ctx context.Context, root, option string) ([]string, error) {
	out, err := command(ctx, filepath.Join(root, "bin/busybox"), option).Output()
	if err != nil {
		return nil, fmt.Errorf("asking busybox for its applets: %w", err)
	}
	names := strings.Fields(string(out))
	return slices.DeleteFunc(names, func(name string) bool { return path.Base(name) == "busybox" }), nil
}

// makeBusybox takes the dynamic busybox and the libraries it needs: the static one would load the same
// libraries to look up a name.
func makeBusybox(ctx context.Context, m *imageMaker, w *imageWriter) error {
	root := state("work", "busybox", "root")
	if _, err := m.unpack(ctx, "busybox", root, "busybox", "libc6"); err != nil {
		return err
	}
	applets, err := applets(ctx, root, "--list")
	if err != nil {
		return err
	}
	libraries := []string{"ld-linux*.so.*", "libc.so.6", "libm.so.6", "libresolv.so.2", "libnss_files.so.2", "libnss_dns.so.2"}
	err = w.layer(func(l *layerTar) error {
		for _, lib := range []string{"lib", "lib64"} {
			err := l.copyTree(lib, filepath.Join(root, lib), func(rel string, dir bool) bool {
				return !dir && !slices.ContainsFunc(libraries, func(pattern string) bool {
					match, _ := path.Match(pattern, path.Base(rel))
					return match
				})
			})
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if err := l.copyFile("bin/busybox", filepath.Join(root, "bin/busybox"), 0o755); err != nil {
			return err
		}
		for _, applet := range applets {
			if err := l.symlink("bin/"+applet, "busybox"); err != nil {
				return err
			}
		}
		err := l.texts(map[string]string{
			"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
			"etc/group":         "root:x:0:\nnobody:x:65534:\n",
			"etc/nsswitch.conf": "hosts: files dns\n",
		})
		if err != nil {
			return err
		}
		if err := l.dir("root", 0o700, 0); err != nil {
			return err
		}
		return l.dir("tmp", 0o1777, 0)
	})
	if err != nil {
		return err
	}
	return w.finish(imageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"sh"}}, runtime.GOARCH)
}

// makeGolang is the official image's layout: Debian, git and a C compiler, Go at /usr/local/go.
func makeGolang(ctx context.Context, m *imageMaker, w *imageWriter) error {
	out, err := command(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	goroot := strings.TrimSpace(string(out))
	if err := w.layer(func(l *layerTar) error { return copyRootfs(l, debianTar("golang"), nil) }); err != nil {
		return err
	}
	err = w.layer(func(l *layerTar) error {
		err := l.copyTree("usr/local/go", goroot, func(rel string, dir bool) bool {
			top, base := strings.SplitN(rel, "/", 2)[0], path.Base(rel)
			if dir {
				return rel == top && (top == "test" || top == "api" || top == "doc" || top == "misc") || base == "testdata" || rel == "pkg/obj" || base == ".git"
			}
			return strings.HasSuffix(base, "_test.go")
		})
		if err != nil {
			return err
		}
		for _, d := range []string{"go", "go/bin", "go/src"} {
			if err := l.dir(d, 0o1777, 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	env := []string{
		"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GOLANG_VERSION=" + strings.TrimPrefix(m.builder.goVersion, "go"), "GOTOOLCHAIN=local", "GOPATH=/go",
	}
	return w.finish(imageConfig{Env: env, Cmd: []string{"bash"}, WorkingDir: "/go"}, runtime.GOARCH)
}

// makeBuildkit follows the layout of upstream's rootless image: the same programs at the same paths,
// user 1000, and the same entry point.
func makeBuildkit(ctx context.Context, m *imageMaker, w *imageWriter) error {
	var passwd, group []byte
	err := w.layer(func(l *layerTar) error {
		return copyRootfs(l, debianTar("buildkit"), func(h *tar.Header, content func() []byte) bool {
			switch h.Name {
			case "usr/bin/newuidmap": // file capabilities: setuid root fails in a Pod without CAP_SYS_ADMIN
				h.Mode, h.PAXRecords = 0o755, fileCapability(7)
			case "usr/bin/newgidmap":
				h.Mode, h.PAXRecords = 0o755, fileCapability(6)
			case "etc/passwd":
				passwd = content()
				return false
			case "etc/group":
				group = content()
				return false
			case "etc/subuid", "etc/subgid":
				return false
			}
			return true
		})
	})
	if err != nil {
		return err
	}
	err = w.layer(func(l *layerTar) error {
		for _, name := range []string{"buildctl", "buildkitd", "rootlesskit", "rootlessctl", "runc"} {
			program, err := m.builder.program(name)
			if err != nil {
				return err
			}
			if name == "runc" {
				name = "buildkit-runc"
			}
			if err := l.copyFile("usr/bin/"+name, program, 0o755); err != nil {
				return err
			}
		}
		err := l.texts(map[string]string{
			"etc/passwd": string(passwd) + "user:x:1000:1000::/home/user:/bin/sh\n",
			"etc/group":  string(group) + "user:x:1000:\n",
			"etc/subuid": "user:100000:65536\n",
			"etc/subgid": "user:100000:65536\n",
		})
		if err != nil {
			return err
		}
		for _, d := range []string{"run/user/1000", "home/user", "home/user/.local", "home/user/.local/tmp", "home/user/.local/share", "home/user/.local/share/buildkit"} {
			if err := l.dir(d, 0o755, 1000); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.finish(imageConfig{
		User: "1000:1000",
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/user", "USER=user",
			"XDG_RUNTIME_DIR=/run/user/1000", "TMPDIR=/home/user/.local/tmp", "BUILDKIT_HOST=unix:///run/user/1000/buildkit/buildkitd.sock",
		},
		Entrypoint: []string{"rootlesskit", "buildkitd"},
		Volumes:    map[string]struct{}{"/home/user/.local/share/buildkit": {}},
	}, runtime.GOARCH)
}

func debianTar(name string) string { return state("work", "debian-"+name, "root.tar") }

// debian makes a small Debian with the given packages, as debianTar(name).
func debian(ctx context.Context, i image) error {
	target, release := debianTar(i.name), cmp.Or(i.suite, suite())
	work := filepath.Dir(target)
	if err := freshDir(work); err != nil {
		return err
	}
	cmd := command(ctx, "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar",
		"--include="+strings.Join(i.debian, ","),
		"--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\"",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/info/*",
		release, target)
	cmd.Env = append(os.Environ(), "TMPDIR="+work, "SOURCE_DATE_EPOCH="+fmt.Sprint(epoch.Unix()))
	// Its mounts live in a mount namespace of its own, so that they end with it, however it ends.
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	if err := runQuietly(cmd); err != nil {
		return fmt.Errorf("making a Debian %s: %w", release, err)
	}
	return nil
}

// copyRootfs adds a Debian's files, without what an image does not need.
func copyRootfs(l *layerTar, file string, edit func(h *tar.Header, content func() []byte) bool) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	// The second reader gives edit a file's content without disturbing the copying.
	content := func(name string) []byte {
		data, _ := exec.Command("tar", "-xOf", file, "./"+name).Output()
		return data
	}
	return l.copyTar(in, func(h *tar.Header) bool {
		if unwanted(h.Name) || h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
			return false
		}
		return edit == nil || edit(h, func() []byte { return content(h.Name) })
	})
}

// unwanted tells what no image needs: documentation, translations and package lists.
func unwanted(name string) bool {
	for _, prefix := range []string{
		"usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bug/",
		"var/lib/apt/lists/", "var/cache/", "var/log/", "usr/share/perl5/Debian/", "dev/", "proc/", "sys/", "run/",
	} {
		if strings.HasPrefix(name, prefix) && name != strings.TrimSuffix(prefix, "/") {
			return true
		}
	}
	return false
}

// readDeb hands over the tar stream of a package's files.
func readDeb(ctx context.Context, deb string, use func(io.Reader) error) error {
	cmd := command(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := use(out); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return err
	}
	return cmd.Wait()
}

// collect reads the files with a suffix out of a tar stream.
func collect(in io.Reader, suffix string, into map[string][]byte) error {
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, in)
			return err
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg && strings.HasSuffix(h.Name, suffix) {
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			into[h.Name] = data
		}
	}
}
