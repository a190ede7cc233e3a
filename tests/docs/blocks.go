// The YAML of docs/: a real API server accepts each ImageBuild and Builder that a page shows, by schema, rules and field names.
package docs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Block is a YAML document of a page.
type Block struct {
	Place string // docs/api.md:12
	Value map[string]any
}

// fences are the texts of a page's fences in this language, with the line that each starts at. A fence may be indented, as in a
// list; its text is as far to the left as the fence.
func fences(page, language string) map[int]string {
	found := map[int]string{}
	start, indent, mark := 0, 0, ""
	var text []string
	for i, line := range strings.Split(page, "\n") {
		bare := strings.TrimLeft(line, " ")
		switch {
		case mark == "" && (strings.HasPrefix(bare, "```") || strings.HasPrefix(bare, "~~~")):
			mark, indent, text, start = bare[:3], len(line)-len(bare), nil, 0
			if strings.TrimSpace(bare[3:]) == language {
				start = i + 2
			}
		case mark != "" && strings.HasPrefix(bare, mark):
			if start > 0 {
				found[start] = strings.Join(text, "\n") + "\n"
			}
			mark = ""
		case mark != "":
			text = append(text, strings.TrimPrefix(line, strings.Repeat(" ", indent)))
		}
	}
	return found
}

// blocks are all YAML documents of the pages, and what is wrong with those that are invalid.
func blocks(folder string) ([]Block, error) {
	pages, err := filepath.Glob(filepath.Join(folder, "*.md"))
	if err != nil {
		return nil, err
	}
	var found []Block
	var wrong []error
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return nil, err
		}
		texts := fences(string(text), "yaml")
		for _, line := range slices.Sorted(maps.Keys(texts)) {
			place := fmt.Sprintf("%s:%d", filepath.Base(page), line)
			for _, document := range strings.Split("\n"+texts[line], "\n---\n") {
				var value map[string]any
				if err := yaml.UnmarshalStrict([]byte(document), &value); err != nil {
					wrong = append(wrong, fmt.Errorf("%s: %w", place, err))
					continue
				}
				if len(value) > 0 {
					found = append(found, Block{place, value})
				}
			}
		}
	}
	return found, errors.Join(wrong...)
}

// whole is the object of ours that a block shows: itself, or what its fragment of a spec is a part of. None is of others' kinds.
// fields are those of the specs, by kind.
func whole(block Block, fields map[string][]string) (map[string]any, error) {
	kind, _ := block.Value["kind"].(string)
	group, _ := block.Value["apiVersion"].(string)
	if kind == "" && group == "" {
		spec, ok := block.Value["spec"].(map[string]any)
		if !ok || len(block.Value) > 1 {
			return nil, nil
		}
		kind = kindOf(spec, fields)
	}
	if fields[kind] == nil || group != "" && !strings.HasPrefix(group, "whittle.dev/") {
		return nil, nil
	}
	object := maps.Clone(block.Value)
	object["apiVersion"], object["kind"] = "whittle.dev/v1alpha1", kind
	metadata, _ := object["metadata"].(map[string]any)
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = map[string]any{}
	}
	if metadata["name"] == nil {
		metadata["name"] = "fragment"
	}
	// Of the namespace counts nothing but that there is one.
	metadata["namespace"] = "default"
	object["metadata"] = metadata
	if kind == "ImageBuild" && group == "" {
		spec, ok := object["spec"].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: an ImageBuild without a spec", block.Place)
		}
		spec = maps.Clone(spec)
		if spec["source"] == nil {
			spec["source"] = map[string]any{"git": map[string]any{"url": "https://git.example.com/a.git"}}
		}
		if spec["output"] == nil {
			spec["output"] = map[string]any{"image": "registry.example.com/team/fragment"}
		}
		object["spec"] = spec
	}
	return object, nil
}

// kindOf is the kind with most of the spec's fields; none where it knows not a single one.
func kindOf(spec map[string]any, fields map[string][]string) string {
	best, most := "", 0
	for _, kind := range slices.Sorted(maps.Keys(fields)) {
		known := 0
		for field := range spec {
			if slices.Contains(fields[kind], field) {
				known++
			}
		}
		if known > most {
			best, most = kind, known
		}
	}
	return best
}
