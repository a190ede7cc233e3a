// The readings: documents of YAML at random, and what kubectl makes of each: `go run . >FILE`. The unit tests of
// src/probe/manifest hold their own reading against them.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Documents of a run, and the seed: the same each time, where no others are given (`go run . SEED COUNT`).
var (
	count = 900
	seed  = 20260101
)

// Reading is one text, and its documents or the error.
type Reading struct {
	Text   string            `json:"text"`
	Values []json.RawMessage `json:"values,omitempty"`
	Error  string            `json:"error,omitempty"`
}

func main() {
	for i, value := range []*int{&seed, &count} {
		if len(os.Args) > i+1 {
			number, err := strconv.Atoi(os.Args[i+1])
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(2)
			}
			*value = number
		}
	}
	texts := known()
	g := &generator{rand.New(rand.NewSource(int64(seed)))}
	for len(texts) < count {
		texts = append(texts, g.document())
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, text := range texts {
		if err := out.Encode(read(text)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// read is how kubectl reads files (StreamVisitor of k8s.io/cli-runtime, pkg/resource/visitor.go).
func read(text string) (found Reading) {
	found.Text = text
	defer func() {
		if err := recover(); err != nil {
			found = Reading{Text: text, Error: fmt.Sprint(err)}
		}
	}()
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		object := runtime.RawExtension{}
		if err := decoder.Decode(&object); err != nil {
			if err == io.EOF {
				return found
			}
			return Reading{Text: text, Error: err.Error()}
		}
		raw := bytes.TrimSpace(object.Raw)
		if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
			continue
		}
		found.Values = append(found.Values, json.RawMessage(raw))
	}
}
