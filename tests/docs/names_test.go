package docs

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Pages that are about fields of other kinds as much as about ours.
var ofOthers = []string{"from-kpack.md", "from-shipwright.md", "gitops.md", "decisions.md"}

// Others' fields and words in the other pages.
var theirs = []string{
	// Flux, Nodes, workloads, the Security Profiles Operator.
	"spec.secretRef", "spec.podCIDR", "spec.podCIDRs", "spec.template.spec", "status.localhostProfile",
	// OpenTelemetry.
	"service.name", "service.version",
	// Kubernetes, AKS.
	"UserNamespacesPodSecurityStandards", "ProcMountType", "AzureLinux",
}

// schemas are those of our kinds, of their specs and statuses, and of the chart's values.
func schemas(t *testing.T) (found []Schema) {
	files, _ := filepath.Glob(filepath.Join(root, "crds", "whittle.dev_*.yaml"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Versions []struct {
					Schema struct{ OpenAPIV3Schema map[string]any }
				}
			}
		}
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatal(err)
		}
		whole := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		found = append(found, Schema{Value: whole})
		properties, _ := whole["properties"].(map[string]any)
		for _, part := range []string{"spec", "status"} {
			if one, ok := properties[part].(map[string]any); ok {
				found = append(found, Schema{Value: one})
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "charts/whittle/values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := json.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	definitions, _ := values["definitions"].(map[string]any)
	return append(found, Schema{values, definitions})
}

// sources are the texts of the program and the kinds.
func sources(t *testing.T) string {
	var all strings.Builder
	for _, folder := range []string{"src", "crds"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !slices.Contains([]string{".rs", ".yaml"}, filepath.Ext(path)) {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return continued.ReplaceAllString(all.String(), "")
}

// words are all words of a text.
func words(text string) map[string]bool {
	found := map[string]bool{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	}) {
		found[word] = true
	}
	return found
}

func TestFieldsAndReasonsThatPagesNameExist(t *testing.T) {
	all := schemas(t)
	source := words(sources(t))
	pages, _ := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	count := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		place := "docs/" + filepath.Base(page)
		if slices.Contains(ofOthers, filepath.Base(page)) {
			continue
		}
		for _, name := range names(string(text), place, path) {
			ours, known := judge(all, name.Text)
			if !ours || slices.Contains(theirs, name.Text) {
				continue
			}
			count++
			if !known {
				t.Errorf("%s: `%s` is neither a field of our kinds nor a value of the chart", name.Place, name.Text)
			}
		}
		for _, name := range names(string(text), place, reason) {
			count++
			if !source[name.Text] && !slices.Contains(theirs, name.Text) {
				t.Errorf("%s: `%s` is not a word of the source", name.Place, name.Text)
			}
		}
	}
	if count < 500 {
		t.Errorf("only %d names found, so what finds them is broken", count)
	}
}

func TestMessagesThatTheAnswersQuoteAreTheProgramsOwn(t *testing.T) {
	source := sources(t)
	text, err := os.ReadFile(filepath.Join(root, "docs/faq.md"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, name := range names(string(text), "docs/faq.md", message) {
		if word, _, _ := strings.Cut(name.Text, " "); slices.Contains([]string{"kubectl", "whittle", "RUN", "make"}, word) {
			continue
		}
		for _, part := range gap.Split(name.Text, -1) {
			// The source has a gap at other places, too: of a part that is short, nothing is known.
			if part = strings.Trim(part, " :;,"); strings.Count(part, " ") < 2 {
				continue
			}
			count++
			if !strings.Contains(source, part) {
				t.Errorf("%s: nothing in src/ says: %s", name.Place, part)
			}
		}
	}
	if count < 8 {
		t.Errorf("only %d messages found, so what finds them is broken", count)
	}
}

func TestAFieldIsFoundByItsPath(t *testing.T) {
	schema := Schema{Definitions: map[string]any{"spec": map[string]any{"properties": map[string]any{
		"list": map[string]any{"items": map[string]any{"properties": map[string]any{"host": map[string]any{"type": "string"}}}},
		"free": map[string]any{"type": "object"},
	}}}, Value: map[string]any{"properties": map[string]any{"spec": map[string]any{"$ref": "#/definitions/spec"}}}}
	for text, want := range map[string][2]bool{
		"spec.list[].host":   {true, true},
		"spec.list.host":     {true, true},
		"spec.list[].hots":   {true, false},
		"spec.free.anything": {true, true},
		"spec.list[].host.a": {true, false},
		"docker.io":          {false, false},
	} {
		ours, known := judge([]Schema{schema}, text)
		if [2]bool{ours, known} != want {
			t.Errorf("%s: %v %v", text, ours, known)
		}
	}
}
