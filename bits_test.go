package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checker checks the types of packages, as they are for one architecture.
type checker struct {
	fset   *token.FileSet
	sizes  types.Sizes
	listed map[string]*listedPackage
	wrong  []string // in packages of ours
}

type listedPackage struct {
	Dir, ImportPath string
	GoFiles         []string
	ImportMap       map[string]string
	types           *types.Package
}

// imports is what one package imports.
type imports struct {
	*checker
	from *listedPackage
}

func (i imports) Import(path string) (*types.Package, error) {
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	if mapped := i.from.ImportMap[path]; mapped != "" {
		path = mapped
	}
	p := i.listed[path]
	if p == nil {
		return nil, fmt.Errorf("%s imports %s, which is not listed", i.from.ImportPath, path)
	}
	return i.check(p)
}

// check looks into the functions of our own packages only: others are what they are.
func (c *checker) check(p *listedPackage) (*types.Package, error) {
	if p.types != nil {
		return p.types, nil
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: imports{c, p}, Sizes: c.sizes, FakeImportC: true, IgnoreFuncBodies: !ours(p.ImportPath)}
	conf.Error = func(err error) {
		if ours(p.ImportPath) {
			c.wrong = append(c.wrong, err.Error())
		}
	}
	p.types, _ = conf.Check(p.ImportPath, c.fset, files, nil) // its error is the first of those told
	return p.types, nil
}

// The program is made for processors of 32 bits too, which nobody has on the desk: there an int is smaller, and the kernel's
// structures have other types.
func TestProgramFor32Bits(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-json=Dir,ImportPath,GoFiles,ImportMap", ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=6", "CGO_ENABLED=0")
	raw, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{fset: token.NewFileSet(), sizes: types.SizesFor("gc", "arm"), listed: map[string]*listedPackage{}}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	for {
		p := &listedPackage{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		c.listed[p.ImportPath] = p
	}
	if _, err := c.check(c.listed["nigh"]); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range c.wrong {
		t.Error(wrong)
	}
	if p := c.listed["nigh/agent"]; p == nil || p.types == nil || !p.types.Complete() {
		t.Error("the agent was not looked at")
	}
}
