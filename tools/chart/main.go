// Writes what is made of the chart: its CRDs, schema and README, the plain manifests in deploy/, and docs/permissions.md.
// `make chart` runs it. In Go because Helm is: the parser that reads values here keeps their comments.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: chart ROOT   (the folder of the sources)")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func write(root string) error {
	chart := filepath.Join(root, "charts", "oauth-operator")
	if err := copyCRDs(filepath.Join(root, "crds"), filepath.Join(chart, "files", "crds")); err != nil {
		return err
	}
	values, err := readValues(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return err
	}
	schema, err := values.schema()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(chart, "values.schema.json"), schema, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(chart, "README.md"), []byte(values.readme()), 0o644); err != nil {
		return err
	}
	helm := filepath.Join(root, "target", "tools", "helm4")
	for _, manifest := range manifests {
		text, err := manifest.render(helm, chart)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "deploy", manifest.file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	permissions, err := permissions(helm, chart)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "docs", "permissions.md"), []byte(permissions), 0o644)
}

// copyCRDs makes the chart's copy the same as what `make crds` has written, without what is there no longer.
func copyCRDs(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
