// What deploys Whittle's objects makes of them: `go run . judge` reads a JSON list of objects and prints, for each, what
// kstatus (Flux, Helm) and Argo CD say. `go run . generate` prints config/argocd/argocd-cm.yaml, from the Lua files beside it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Where Argo CD's own repository has its scripts, too.
const customizations = "../../config/argocd/resource_customizations"

// Verdict is what is said of an object.
type Verdict struct {
	Kstatus string `json:"kstatus"`
	Health
}

func main() {
	var err error
	switch strings.Join(os.Args[1:], " ") {
	case "judge":
		err = judge()
	case "generate":
		var text string
		if text, err = generate(); err == nil {
			_, err = os.Stdout.WriteString(text)
		}
	default:
		err = fmt.Errorf("usage: go run . judge|generate")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge() error {
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return err
	}
	verdicts := []Verdict{}
	for _, text := range objects {
		// Whole numbers are read as such, as clients of the API server do.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return err
		}
		verdict, err := verdict(object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		verdicts = append(verdicts, verdict)
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

func verdict(object *unstructured.Unstructured) (Verdict, error) {
	result, err := status.Compute(object)
	if err != nil {
		return Verdict{}, err
	}
	kind := object.GroupVersionKind()
	script, err := os.ReadFile(filepath.Join(customizations, kind.Group, kind.Kind, "health.lua"))
	if err != nil {
		return Verdict{}, err
	}
	health, err := health(object.Object, string(script))
	return Verdict{result.Status.String(), health}, err
}

const header = `# Made by ` + "`make generate`" + ` from the Lua files of resource_customizations: edit those.
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
data:
`

// generate writes what Argo CD reads of argocd-cm: docs/operator-manual/health.md and resource_actions.md of its repository.
func generate() (string, error) {
	kinds, err := filepath.Glob(filepath.Join(customizations, "*", "*", "health.lua"))
	if err != nil || len(kinds) == 0 {
		return "", fmt.Errorf("no health.lua in %s: %v", customizations, err)
	}
	text := strings.Builder{}
	text.WriteString(header)
	slices.Sort(kinds)
	for _, path := range kinds {
		folder := filepath.Dir(path)
		key := filepath.Base(filepath.Dir(folder)) + "_" + filepath.Base(folder)
		if err := write(&text, path, "  ", "resource.customizations.health."+key); err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "  resource.customizations.actions.%s: |\n", key)
		if err := write(&text, filepath.Join(folder, "actions/discovery.lua"), "    ", "discovery.lua"); err != nil {
			return "", err
		}
		text.WriteString("    definitions:\n")
		actions, err := filepath.Glob(filepath.Join(folder, "actions/*/action.lua"))
		if err != nil {
			return "", err
		}
		for _, action := range actions {
			fmt.Fprintf(&text, "      - name: %s\n", filepath.Base(filepath.Dir(action)))
			if err := write(&text, action, "        ", "action.lua"); err != nil {
				return "", err
			}
		}
	}
	return text.String(), nil
}

// write puts a file under a key, as a block.
func write(text *strings.Builder, path, indent, key string) error {
	script, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(text, "%s%s: |\n", indent, key)
	for _, line := range strings.Split(strings.TrimRight(string(script), "\n"), "\n") {
		if line != "" {
			line = indent + "  " + line
		}
		text.WriteString(line + "\n")
	}
	return nil
}
