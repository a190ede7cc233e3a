// What is derived from the chart: `go run . readme CHART` writes CHART's files/defaults.yaml and the table of its README.md, from its values;
// `go run . components BASE FOLDER` writes kustomize components for another image and for mirrors, from the rendered base.
// The tests beside it hold the chart to what values.yaml says.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Values that are somebody's own as a whole: templates/_helpers.tpl, whittle.fillIn, has the same list.
var whole = []string{"resources", "securityContext", "containerSecurityContext", "defaults", "nodeSelector", "namespaceSelector"}

// Value is one line of the table.
type Value struct {
	Path, Default, Text string
	// Above it a heading begins.
	Section string
	// It has values of its own.
	Group bool
}

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "readme":
		err = write(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "components":
		err = components(os.Args[2], os.Args[3])
	default:
		err = fmt.Errorf("usage: go run . readme CHART | components BASE FOLDER")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(chart string) error {
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(chart, "files/defaults.yaml"), text, 0o644); err != nil {
		return err
	}
	values, err := read(text)
	if err != nil {
		return err
	}
	path := filepath.Join(chart, "README.md")
	readme, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const begin, end = "<!-- values.yaml: make generate -->\n", "<!-- end of values.yaml -->\n"
	before, rest, found := bytes.Cut(readme, []byte(begin))
	_, after, ends := bytes.Cut(rest, []byte(end))
	if !found || !ends {
		return fmt.Errorf("%s: a line is missing: %q or %q", path, begin, end)
	}
	return os.WriteFile(path, slices.Concat(before, []byte(begin+table(values)+end), after), 0o644)
}

// read is every value with the comment above it.
func read(text []byte) ([]Value, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	var all []Value
	if err := collect(document.Content[0], "", &all); err != nil {
		return nil, err
	}
	return all, nil
}

func collect(mapping *yaml.Node, prefix string, all *[]Value) error {
	for at := 0; at+1 < len(mapping.Content); at += 2 {
		key, node := mapping.Content[at], mapping.Content[at+1]
		section, text := comment(key.HeadComment)
		value := Value{Path: prefix + key.Value, Text: text, Section: section}
		if node.Kind == yaml.MappingNode && len(node.Content) > 0 && !slices.Contains(whole, key.Value) {
			value.Group = true
			*all = append(*all, value)
			if err := collect(node, value.Path+".", all); err != nil {
				return err
			}
			continue
		}
		var plain any
		if err := node.Decode(&plain); err != nil {
			return err
		}
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(plain); err != nil {
			return fmt.Errorf("%s: %w", value.Path, err)
		}
		value.Default = strings.TrimSpace(out.String())
		*all = append(*all, value)
	}
	return nil
}

// comment is the heading that begins there, if any, and the text.
func comment(head string) (section, text string) {
	for paragraph := range strings.SplitSeq(head, "\n\n") {
		var words []string
		for line := range strings.SplitSeq(paragraph, "\n") {
			line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
			if strings.HasPrefix(line, "- ") {
				// An example: what follows is one, too.
				break
			}
			words = append(words, line)
		}
		joined := strings.TrimSpace(strings.Join(words, " "))
		if name, is := strings.CutPrefix(joined, "── "); is {
			section = strings.TrimRight(name, "─ ")
			continue
		}
		// Of several the last one stands at the key; the others are examples of what was before.
		text = joined
	}
	return section, text
}

func table(values []Value) string {
	var out strings.Builder
	head := func() { out.WriteString("\n| value | default | |\n|---|---|---|\n") }
	head()
	for _, value := range values {
		if value.Section != "" {
			fmt.Fprintf(&out, "\n### %s\n", value.Section)
			head()
		}
		given := "`` " + value.Default + " ``"
		if !strings.Contains(value.Default, "`") {
			given = "`" + value.Default + "`"
		}
		if value.Group {
			given = ""
			if value.Text == "" {
				continue
			}
		}
		escape := strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`)
		fmt.Fprintf(&out, "| `%s` | %s | %s |\n", value.Path, strings.ReplaceAll(given, "|", `\|`), escape.Replace(value.Text))
	}
	out.WriteString("\n")
	return out.String()
}
