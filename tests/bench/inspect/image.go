package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
)

// layer is one layer of an image that is made up: a number of files of each kind, until it has its size.
type layer struct {
	instruction string
	folder      string
	megabytes   int // compressed, at least
	typical     int // bytes of a file, about
	programs    int // of a hundred files
}

// The images that are measured. Their sizes are those of the compressed layers.
var images = map[string][]layer{
	// A distribution in small, a program, its settings.
	"15MB": {
		{"ADD rootfs.tar.xz /", "usr/share", 4, 20_000, 15},
		{"COPY --from=build /app /usr/local/bin/app", "usr/local/bin", 11, 19_500_000, 100},
		{"COPY settings /etc/app", "etc/app", 0, 2_000, 0},
	},
	// A distribution, a toolchain, a program: most images of one stage.
	"222MB": {
		{"ADD rootfs.tar.xz /", "usr/share", 45, 15_000, 10},
		{"RUN apt-get install -y build-essential", "usr/lib/toolchain", 165, 150_000, 20},
		{"COPY --from=build /app /usr/local/bin/app", "usr/local/bin", 12, 19_500_000, 100},
	},
	// A distribution, a toolchain, a hundred thousand small files of an interpreter, a model, a program.
	"1GB": {
		{"ADD rootfs.tar.xz /", "usr/share", 45, 15_000, 10},
		{"RUN apt-get install -y build-essential", "usr/lib/toolchain", 260, 150_000, 20},
		{"RUN npm ci", "srv/node_modules", 300, 7_000, 1},
		{"COPY models /srv/models", "srv/models", 300, 20_000_000, 0},
		{"COPY --from=build /app /usr/local/bin/app", "usr/local/bin", 120, 15_000_000, 100},
		{"COPY settings /etc/app", "etc/app", 0, 2_000, 0},
	},
}

// pools hold what files are cut from: text as of words, code as of instructions. Neither repeats within
// the 32 KiB that gzip looks back, so files compress like real ones.
type pools struct{ text, code []byte }

func makePools() pools {
	random := rand.New(rand.NewPCG(1, 2))
	const size = 16 << 20
	words := make([][]byte, 3000)
	for i := range words {
		word := make([]byte, 2+random.IntN(9))
		for j := range word {
			word[j] = byte('a' + random.IntN(26))
		}
		words[i] = append(word, " \n"[min(random.IntN(9), 8)/8])
	}
	var text bytes.Buffer
	for text.Len() < size {
		// Some words are far more frequent than others.
		text.Write(words[int(float64(len(words))*random.Float64()*random.Float64()*random.Float64())])
	}
	code := make([]byte, 0, size)
	for len(code) < size {
		// Few operations, many operands.
		code = append(code, byte(random.IntN(16)*random.IntN(16)), 0x48, byte(0x89+random.IntN(4)))
		if random.IntN(8) == 0 {
			code = binary.LittleEndian.AppendUint32(code, random.Uint32()>>(8+random.IntN(24)))
		}
	}
	return pools{text.Bytes()[:size], code[:size]}
}

// cut writes size bytes of a pool, from anywhere in it.
func cut(w io.Writer, pool []byte, size int, random *rand.Rand) error {
	for size > 0 {
		from := random.IntN(len(pool))
		part := pool[from:min(len(pool), from+size)]
		if _, err := w.Write(part); err != nil {
			return err
		}
		size -= len(part)
	}
	return nil
}

// elfHead is the beginning of a static program for amd64.
func elfHead(size int) []byte {
	head := make([]byte, 120)
	copy(head, "\x7fELF\x02\x01\x01")
	for at, value := range map[int]uint16{16: 2, 18: 62, 52: 64, 54: 56, 56: 1, 58: 64} {
		binary.LittleEndian.PutUint16(head[at:], value)
	}
	for at, value := range map[int]uint32{20: 1, 64: 1, 68: 5} {
		binary.LittleEndian.PutUint32(head[at:], value)
	}
	for at, value := range map[int]uint64{24: 0x400078, 32: 64, 80: 0x400000, 88: 0x400000, 96: uint64(size), 104: uint64(size), 112: 4096} {
		binary.LittleEndian.PutUint64(head[at:], value)
	}
	return head
}

type counter struct {
	hash  hash.Hash
	bytes int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return c.hash.Write(p)
}

func (c *counter) digest() string { return "sha256:" + hex.EncodeToString(c.hash.Sum(nil)) }

// packLayer writes one layer into the blobs of a layout. The entries come from write, which is told how many bytes there are so far,
// compressed.
func packLayer(blobs string, level int, write func(out *tar.Writer, packed *counter) error) (blob descriptor, diffID string, err error) {
	file, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return blob, "", err
	}
	defer file.Close()
	packed, unpacked := &counter{hash: sha256.New()}, &counter{hash: sha256.New()}
	zip, err := gzip.NewWriterLevel(io.MultiWriter(file, packed), level)
	if err != nil {
		return blob, "", err
	}
	out := tar.NewWriter(io.MultiWriter(zip, unpacked))
	if err := write(out, packed); err != nil {
		return blob, "", err
	}
	if err := out.Close(); err != nil {
		return blob, "", err
	}
	if err := zip.Close(); err != nil {
		return blob, "", err
	}
	blob = descriptor{"application/vnd.oci.image.layer.v1.tar+gzip", packed.digest(), packed.bytes}
	return blob, unpacked.digest(), os.Rename(file.Name(), filepath.Join(blobs, blob.Digest[7:]))
}

// write writes the files of one layer.
func (l layer) write(out *tar.Writer, packed *counter, pools pools, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 3))
	for number := 0; number == 0 || packed.bytes < int64(l.megabytes)*1_000_000; number++ {
		size := l.typical/4 + random.IntN(l.typical*3/2)
		program := random.IntN(100) < l.programs
		name, mode, pool := fmt.Sprintf("%s/%03d/%02d/file-%d.txt", l.folder, number/4000, number/50%80, number), int64(0o644), pools.text
		if program {
			name, mode, pool = fmt.Sprintf("%s/program-%d", l.folder, number), 0o755, pools.code
			size += 120
		} else if l.typical > 1_000_000 {
			pool = pools.code
		}
		if program && number == 0 && l.folder == "usr/local/bin" {
			name = l.folder + "/app"
		}
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(size), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		if program {
			if _, err := out.Write(elfHead(size)); err != nil {
				return err
			}
			size -= 120
		}
		if err := cut(out, pool, size, random); err != nil {
			return err
		}
	}
	return nil
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	Manifests     []descriptor `json:"manifests"`
}

type history struct {
	CreatedBy string `json:"created_by"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type runConfig struct {
	User       string   `json:"User"`
	Entrypoint []string `json:"Entrypoint"`
}

type config struct {
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       runConfig `json:"config"`
	RootFS       rootFS    `json:"rootfs"`
	History      []history `json:"history"`
}

// writeImage writes an OCI layout with one image: the same bytes each time.
func writeImage(layout string, layers []layer) error {
	pools := makePools()
	instructions := make([]string, len(layers))
	for i, l := range layers {
		instructions[i] = l.instruction
	}
	return writeLayout(layout, instructions, func(blobs string, i int) (descriptor, string, error) {
		return packLayer(blobs, gzip.DefaultCompression, func(out *tar.Writer, packed *counter) error {
			return layers[i].write(out, packed, pools, uint64(i))
		})
	})
}

// writeLayout writes an OCI layout with one image of layers that these instructions made.
func writeLayout(layout string, instructions []string, write func(blobs string, layer int) (descriptor, string, error)) error {
	blobs := filepath.Join(layout, "blobs/sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	image := manifest{SchemaVersion: 2, MediaType: "application/vnd.oci.image.manifest.v1+json", Layers: make([]descriptor, len(instructions))}
	settings := config{
		Architecture: "amd64", OS: "linux",
		Config: runConfig{User: "65532:65532", Entrypoint: []string{"/usr/local/bin/app"}},
		RootFS: rootFS{Type: "layers", DiffIDs: make([]string, len(instructions))},
	}
	var wait sync.WaitGroup
	errs := make([]error, len(instructions))
	for i, instruction := range instructions {
		settings.History = append(settings.History, history{instruction})
		wait.Go(func() {
			image.Layers[i], settings.RootFS.DiffIDs[i], errs[i] = write(blobs, i)
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	put := func(mediaType string, value any) (descriptor, error) {
		data, err := json.Marshal(value)
		if err != nil {
			return descriptor{}, err
		}
		sum := sha256.Sum256(data)
		name := hex.EncodeToString(sum[:])
		return descriptor{mediaType, "sha256:" + name, int64(len(data))}, os.WriteFile(filepath.Join(blobs, name), data, 0o644)
	}
	var err error
	if image.Config, err = put("application/vnd.oci.image.config.v1+json", settings); err != nil {
		return err
	}
	top, err := put(image.MediaType, image)
	if err != nil {
		return err
	}
	data, err := json.Marshal(index{2, []descriptor{top}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(layout, "index.json"), data, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}
