package docs

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const root = "../.."

// kinds are ours that people write: the path's word, and the fields of the spec.
type kind struct {
	plural string
	fields []string
}

// install applies the CRDs, and waits until each is served.
func install(t *testing.T, s *server) map[string]kind {
	kinds := map[string]kind{}
	files, err := filepath.Glob(filepath.Join(root, "crds", "whittle.dev_*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs in crds/: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		var crd struct {
			Spec struct {
				Names    struct{ Kind, Plural string }
				Scope    string
				Versions []struct {
					Schema struct {
						OpenAPIV3Schema struct {
							Properties struct {
								Spec struct{ Properties map[string]any }
							}
						}
					}
				}
			}
		}
		if err := yaml.Unmarshal(text, &object); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatal(err)
		}
		code, answer, err := s.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", object)
		if err != nil || code != http.StatusCreated {
			t.Fatalf("%s: %d %s %v", file, code, answer, err)
		}
		if crd.Spec.Scope != "Namespaced" {
			continue
		}
		fields := slices.Sorted(maps.Keys(crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties.Spec.Properties))
		kinds[crd.Spec.Names.Kind] = kind{crd.Spec.Names.Plural, fields}
	}
	s.until(t, func() bool {
		for _, one := range kinds {
			code, _, err := s.ask("GET", "/apis/whittle.dev/v1alpha1/namespaces/default/"+one.plural, nil)
			if err != nil || code != http.StatusOK {
				return false
			}
		}
		code, _, err := s.ask("GET", "/api/v1/namespaces/default", nil)
		return err == nil && code == http.StatusOK
	})
	return kinds
}

func TestAPIServerAcceptsEachImageBuildAndBuilderOfTheDocs(t *testing.T) {
	s := start(t)
	kinds := install(t, s)
	fields := map[string][]string{}
	for name, one := range kinds {
		fields[name] = one.fields
	}
	// Else it would accept everything.
	for _, wrong := range []string{`{"source": {"git": {"url": "https://git.example.com/a.git"}}, "outptu": {}}`, `{"source": {}, "output": {"image": "registry.example.com/a:1"}}`} {
		var spec map[string]any
		if err := yaml.Unmarshal([]byte(wrong), &spec); err != nil {
			t.Fatal(err)
		}
		object := map[string]any{"apiVersion": "whittle.dev/v1alpha1", "kind": "ImageBuild", "metadata": map[string]any{"name": "wrong"}, "spec": spec}
		if s.dryRun(object, kinds["ImageBuild"].plural) == nil {
			t.Fatalf("the API server accepts what is wrong: %s", wrong)
		}
	}
	count := map[string]int{}
	for _, folder := range []string{"docs", "."} {
		all, err := blocks(filepath.Join(root, folder))
		if err != nil {
			t.Error(err)
		}
		for _, block := range all {
			object, err := whole(block, fields)
			if err != nil {
				t.Error(err)
				continue
			}
			if object == nil {
				continue
			}
			name := object["kind"].(string)
			count[name]++
			if err := s.dryRun(object, kinds[name].plural); err != nil {
				t.Errorf("%s: the API server rejects this %s: %v", filepath.Join(folder, block.Place), name, err)
			}
		}
	}
	if count["ImageBuild"] < 10 || count["Builder"] < 1 {
		t.Errorf("too few found, so what finds them is broken: %v", count)
	}
	t.Logf("accepted or told above: %v", count)
}

func TestFencesAreFoundAsMarkdownHasThem(t *testing.T) {
	page := "a\n```yaml\nb: 1\n```\n\n  ```yaml\n  c:\n    d: 2\n  ```\n~~~\n```yaml\nno: 1\n```\n~~~\n```sh\nyaml: no\n```\n"
	found := fences(page, "yaml")
	want := map[int]string{3: "b: 1\n", 7: "c:\n  d: 2\n"}
	if !maps.Equal(found, want) {
		t.Errorf("found %v", found)
	}
}

func TestFragmentsBecomeObjectsOfTheKindThatHasTheirFields(t *testing.T) {
	fields := map[string][]string{"ImageBuild": {"source", "output", "triggers"}, "Builder": {"cache", "sharing"}}
	for text, want := range map[string]string{
		"spec: {triggers: {}}":               "ImageBuild",
		"spec: {sharing: Build}":             "Builder",
		"spec: {ignoreDifferences: []}":      "",
		"kind: Builder\nspec: {cache: {}}":   "Builder",
		"kind: Deployment\nspec: {}":         "",
		"replicas: 2":                        "",
		"apiVersion: x.io/v1\nkind: Builder": "",
	} {
		var value map[string]any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		object, err := whole(Block{"a.md:1", value}, fields)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := object["kind"].(string)
		if got != want {
			t.Errorf("%s: %q, want %q", strings.ReplaceAll(text, "\n", "; "), got, want)
		}
	}
}
