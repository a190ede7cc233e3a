package main

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"slices"
	"strings"
)

// program is what all hostile images start, without the slash before it.
const program = "usr/local/bin/app"

// hostileImage is an image that nobody builds by accident.
type hostileImage struct {
	name   string
	layers []hostileLayer
}

// hostileLayer writes the entries of one layer. The first layer of an image is its base, all others are its own.
type hostileLayer func(out *tar.Writer) error

// entries is a layer of these entries.
func entries(headers ...*tar.Header) hostileLayer {
	return func(out *tar.Writer) error {
		for _, header := range headers {
			if err := put(out, *header); err != nil {
				return fmt.Errorf("%q: %w", header.Name, err)
			}
		}
		return nil
	}
}

// put writes an entry. The text of a file stands where a link has its target.
func put(out *tar.Writer, header tar.Header) error {
	text := ""
	if header.Typeflag == tar.TypeReg {
		text, header.Linkname = header.Linkname, ""
		header.Size = int64(len(text))
	}
	if err := out.WriteHeader(&header); err != nil {
		return err
	}
	_, err := out.Write([]byte(text))
	return err
}

func file(name, text string) *tar.Header { return fileOf(name, 0o644, text) }
func fileOf(name string, mode int64, text string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Linkname: text}
}
func folder(name string, mode int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}
}
func symlink(name, target string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Mode: 0o777, Linkname: target}
}
func hardLink(name, target string) *tar.Header { return hardLinkOf(name, target, 0o644, 0) }
func hardLinkOf(name, target string, mode int64, owner int) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeLink, Name: name, Mode: mode, Uid: owner, Gid: owner, Linkname: target}
}
func device(name string, kind byte, major, minor int64) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Mode: 0o640, Uid: 7, Gid: 7, Devmajor: major, Devminor: minor}
}

// whiteout removes what lower layers have at this path.
func whiteout(name string) *tar.Header {
	at := strings.LastIndexByte(name, '/') + 1
	return file(name[:at]+".wh."+name[at:], "")
}

// opaque hides what lower layers have in this folder.
func opaque(name string) *tar.Header { return whiteout(name + "/.wh..opq") }

// base is a first layer: a few files that are kept, many that nobody needs, and what else there is.
func base(more ...*tar.Header) hostileLayer {
	all := []*tar.Header{
		folder("etc", 0o755), file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), folder("usr/local/bin", 0o755),
		folder("kept", 0o750), file("kept/first", "the first"),
	}
	for number := range 50 {
		all = append(all, file(fmt.Sprintf("usr/share/doc/page-%d.html", number), strings.Repeat("nobody reads this\n", 40)))
	}
	return entries(append(all, more...)...)
}

// app is the layer with the program, and what else there is.
func app(more ...*tar.Header) hostileLayer {
	text := string(elfHead(4096)) + strings.Repeat("\x90", 4096-120)
	return entries(append([]*tar.Header{fileOf(program, 0o755, text)}, more...)...)
}

// many is a layer of that many small files.
func many(count int) hostileLayer {
	return func(out *tar.Writer) error {
		for number := range count {
			name := fmt.Sprintf("kept/%03d/file-%d", number/1000, number)
			if err := put(out, *file(name, fmt.Sprintf("this is %d", number))); err != nil {
				return err
			}
		}
		return nil
	}
}

// chain is a number of links, each to the one before, the first to a file.
func chain(folder string, count int) []*tar.Header {
	all := []*tar.Header{file(folder+"/0", "the end of the chain")}
	for number := range count {
		all = append(all, symlink(fmt.Sprintf("%s/%d", folder, number+1), fmt.Sprint(number)))
	}
	return all
}

// The hostile images. In the base, /kept is a folder that stays as a whole, and of /opt stays what is named.
var hostileImages = []hostileImage{
	{"links", []hostileLayer{
		base(slices.Concat(
			chain("kept/chain", 1000), chain("opt/chain", 1000), chain("opt/short", 30),
			[]*tar.Header{
				symlink("kept/loop-a", "loop-b"), symlink("kept/loop-b", "loop-a"), symlink("kept/self", "self"),
				symlink("kept/here", "."), symlink("kept/up", "../kept/up/up"),
				symlink("kept/out", "../../../etc/passwd"), symlink("kept/far", "../../../../../../../.."),
				symlink("kept/absolute", "/../../etc/passwd"), symlink("kept/nowhere", "/none/such"),
				symlink("kept/long", strings.Repeat("./", 2000)+"first"),
				symlink("opt/loop-a", "loop-b"), symlink("opt/loop-b", "loop-a"),
				symlink("opt/out", "../../../etc/passwd"), symlink("opt/far/out", "../../../../opt/far/end"), file("opt/far/end", "far"),
				folder("opt/real", 0o711), file("opt/real/under", "under"), folder("opt/turned", 0o700), file("opt/turned/old", "old"),
			},
		)...),
		app(file("app/names.json", `["/opt/loop-a","/opt/chain/1000","/opt/short/30","/opt/out","/opt/far/out","/opt/turned/under"]`)),
		entries(symlink("opt/turned", "real")),
		entries(file("opt/turned/through", "through a link"), symlink("opt/turned/link", "through"), folder("opt/turned/deep", 0o710)),
	}},
	// Folders that become links, and links that become folders, where both have files of the same names.
	{"links-and-folders", []hostileLayer{
		base(),
		app(
			file("app/real/name", "of the folder that stays"), file("app/turned/name", "of the folder that becomes a link"),
			symlink("app/back", "target"), folder("app/target", 0o755), folder("app/back/closed", 0o700), file("app/target/closed/one", "one"),
		),
		entries(symlink("app/turned", "real")),
		entries(file("app/turned/more", "through the link")),
		entries(whiteout("app/back")),
		entries(folder("app/back", 0o755), file("app/back/closed/two", "two")),
	}},
	{"whiteouts", []hostileLayer{
		base(
			file("kept/gone", "gone"), folder("kept/folder", 0o755), file("kept/folder/old", "old"),
			folder("kept/again", 0o700), file("kept/again/old", "old"), symlink("kept/to", "folder"), file("kept/file", "file"),
		),
		app(),
		entries(
			whiteout("kept/none"), whiteout("none/such"), whiteout("kept/first/below"), whiteout("kept/gone"), whiteout("kept/gone"),
			file(".wh.", ""), file("kept/.wh.", ""), file(".wh..", ""), file("kept/.wh..", ""), file("kept/.wh...", ""),
			file(".wh..wh.plnk", ""), file("kept/.wh..wh.plnk", ""), file(".wh..wh.aufs", ""), file("kept/.wh..wh.orph", ""),
			whiteout("kept/folder"), folder("kept/folder", 0o711), file("kept/folder/new", "new"),
			folder("kept/again", 0o755), file("kept/again/new", "new"), whiteout("kept/again"),
			file("kept/same", "of the same layer"), whiteout("kept/same"),
		),
		entries(whiteout("kept/to/new"), symlink("kept/.wh.file", "first"), file("kept/file", "after its whiteout")),
		entries(folder("kept/.wh.none-too", 0o755), whiteout("usr/share/doc"), file("usr/share/doc/page-0.html", "later")),
	}},
	{"devices", []hostileLayer{
		base(
			device("kept/char", tar.TypeChar, 1, 3), device("kept/block", tar.TypeBlock, 8, 1), device("kept/fifo", tar.TypeFifo, 0, 0),
			device("kept/large", tar.TypeChar, 0o7777777, 0o7777777), device("dev/null", tar.TypeChar, 1, 3),
			symlink("kept/to-fifo", "fifo"), device("kept/replaced", tar.TypeBlock, 8, 2), file("kept/becomes", "a file"),
		),
		app(device("app/fifo", tar.TypeFifo, 0, 0), device("app/kmsg", tar.TypeChar, 1, 11), hardLinkOf("app/fifo-again", "app/fifo", 0o640, 7)),
		entries(file("kept/replaced", "no device"), device("kept/becomes", tar.TypeChar, 1, 5), hardLinkOf("app/char", "kept/char", 0o640, 7)),
	}},
	{"hard-links", []hostileLayer{
		base(
			file("kept/one", "one"), file("kept/two", "two"), symlink("kept/link", "first"), fileOf("opt/tool", 0o644, "tool"),
			file("kept/z", "first name"), hardLink("kept/a", "kept/z"), symlink("kept/way", "../opt"),
		),
		app(hardLink("app/one", "kept/one"), hardLink("app/two", "/kept/two"), hardLink("app/link", "kept/link"),
			hardLink("app/tool", "kept/way/tool"), hardLink("app/of-link", "app/one"), hardLink("app/a", "kept/a")),
		entries(whiteout("kept/one"), file("kept/two", "another"), hardLink("app/late", "app/two"), whiteout("kept/z")),
		entries(whiteout("app/one"), hardLink("kept/two", "app/two"), hardLink("app/again", "kept/a"), whiteout("opt/tool")),
	}},
	// A link whose entry gives the file another mode and owner.
	{"hard-link-modes", []hostileLayer{
		base(),
		app(fileOf("app/plain", 0o644, "plain"), hardLinkOf("app/setuid", "app/plain", 0o4755, 0), file("app/a", "a"), hardLinkOf("app/owned", "app/a", 0o600, 7)),
	}},
	{"hard-link-to-itself", []hostileLayer{base(hardLink("kept/first", "kept/first")), app(file("app/a", "a"), hardLink("app/a", "./app/../app/a"))}},
	{"hard-link-to-nothing", []hostileLayer{base(), app(hardLink("app/a", "none/such"))}},
	{"hard-link-to-folder", []hostileLayer{base(), app(hardLink("app/a", "kept"))}},
	{"hard-link-outside", []hostileLayer{base(), app(hardLink("app/a", "../../../etc/passwd"))}},
	{"opaque", []hostileLayer{
		base(
			folder("kept/a", 0o755), file("kept/a/1", "1"), folder("kept/a/sub", 0o700), file("kept/a/sub/1", "1"),
			folder("kept/b", 0o755), file("kept/b/1", "1"), symlink("kept/to-b", "b"),
		),
		app(),
		entries(file("kept/a/2", "2"), opaque("kept/a"), file("kept/a/3", "3")),
		entries(opaque("none/such"), file("kept/b/2", "2"), opaque("kept/to-b"), file("kept/b/3", "3"), opaque("kept/b")),
		entries(folder("kept/a/sub", 0o711), file("kept/a/sub/4", "4"), opaque("kept/a"), file("kept/a/5", "5"), opaque("kept/a"), whiteout("kept/a/5")),
		entries(opaque("kept/first"), opaque("kept/b"), file("kept/b/6", "6")),
	}},
	{"opaque-root", []hostileLayer{
		base(),
		entries(file("app/early", "early")),
		app(opaque("."), file("etc/passwd", "app:x:1:1::/:\n"), file("app/late", "late")),
	}},
	{"outside", []hostileLayer{base(file("../../outside", "outside"), file("kept/../../../outside", "outside")), app()}},
	{"link-as-folder", []hostileLayer{base(symlink("kept/loop", "loop")), app(file("kept/loop/file", "nowhere"))}},
	{"names", []hostileLayer{
		base(file("/kept/absolute", "absolute"), file("./kept/./dots//and/slashes", "x"), file("kept/down/../up", "up")),
		app(
			file("/app/absolute", "absolute"), file("app/"+strings.Repeat("n", 255), "long"), file("app/line\nline", "two lines"),
			file("app/\xff\xfe", "no UTF-8"), file("app/\"quotes\" and \\", "quotes"), file("app/\x1b[31mred", "an escape"),
			file("app/"+strings.Repeat("deep/", 700)+"end", "deep"), file("app/.whale", "no whiteout"), file("app/...", "dots"),
		),
	}},
	{"duplicates", []hostileLayer{
		base(
			file("kept/twice", "once"), fileOf("kept/twice", 0o600, "and once more"), folder("kept/folder", 0o755), folder("kept/folder", 0o700),
			symlink("kept/link", "a"), symlink("kept/link", "b"), file("kept/kinds", "a file"), symlink("kept/kinds", "first"),
			folder("kept/kinds", 0o711), file("kept/kinds/below", "below"), file("kept/kinds", "the last"),
		),
		app(file("app/a", "first"), hardLink("app/of-first", "app/a"), file("app/a", "second"), folder("app/b", 0o700), folder("app/b", 0o711)),
	}},
	// The file that a link leads to has its name from neither the first nor the last of the entries of that name.
	{"duplicate-files-linked", []hostileLayer{
		base(),
		app(file("app/b", "first"), file("app/b", "second"), hardLink("app/of-second", "app/b"), file("app/b", "the third")),
	}},
	// A link that leads to another file the second time, which is not there the first time.
	{"duplicate-links", []hostileLayer{
		base(),
		app(file("app/c", "c"), hardLink("app/moves", "app/c"), file("app/d", "d"), hardLink("app/moves", "app/d")),
	}},
	// What can be held of it, and what cannot.
	{"300000-files", []hostileLayer{base(), app(), many(300_000)}},
	{"1000000-files", []hostileLayer{base(), app(), many(1_000_000)}},
}

// writeHostile writes an OCI layout with one of the hostile images.
func writeHostile(layout string, layers []hostileLayer) error {
	instructions := []string{"ADD rootfs.tar.xz /"}
	for range layers[1:] {
		instructions = append(instructions, "COPY . /")
	}
	return writeLayout(layout, instructions, func(blobs string, i int) (descriptor, string, error) {
		return packLayer(blobs, gzip.BestSpeed, func(out *tar.Writer, _ *counter) error { return layers[i](out) })
	})
}

func hostileOf(name string) []hostileLayer {
	for _, image := range hostileImages {
		if image.name == name {
			return image.layers
		}
	}
	return nil
}
