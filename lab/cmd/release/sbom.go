package main

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/licensecheck"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// module is a part of the program that others wrote: a Go module, or Go's own library.
type module struct {
	path    string
	version string
	sum     string // as in go.sum; "" = Go's own library
	licence string // an SPDX expression
	texts   []string
}

// licenceFiles is how the names begin under which modules keep licences and notices, in capitals or not.
var licenceFiles = []string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS", "PATENTS"}

// modulesOf returns the modules in a program, as the program itself names them, with their licences. A module whose licence is
// not recognised is an error: nobody may give its code to others without knowing it.
func modulesOf(ctx context.Context, sources string, info *debug.BuildInfo) ([]module, error) {
	root, err := output(ctx, sources, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	library := module{path: "stdlib", version: info.GoVersion}
	if err := library.read(strings.TrimSpace(root)); err != nil {
		return nil, err
	}
	list := []module{library}
	args := []string{"mod", "download", "-json"}
	for _, d := range info.Deps {
		if d.Replace != nil {
			return nil, fmt.Errorf("%s is replaced by %s: nobody else could build this", d.Path, d.Replace.Path)
		}
		args = append(args, d.Path+"@"+d.Version)
	}
	out, err := output(ctx, sources, nil, "go", args...)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(strings.NewReader(out))
	for {
		var m struct{ Path, Version, Sum, Dir string }
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(info.Deps, func(d *debug.Module) bool { return d.Path == m.Path && d.Version == m.Version })
		if i < 0 || info.Deps[i].Sum != m.Sum {
			return nil, fmt.Errorf("%s %s is not what is in the program", m.Path, m.Version)
		}
		one := module{path: m.Path, version: m.Version, sum: m.Sum}
		if err := one.read(m.Dir); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return list, nil
}

// recognised is how much of a file has to be a known licence, in percent; the rest is names and years.
const recognised = 75

// read finds the licence of what lies in a folder.
func (m *module) read(folder string) error {
	var found []string
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, f := range files {
		upper := strings.ToUpper(f.Name())
		if !f.Type().IsRegular() || !slices.ContainsFunc(licenceFiles, func(name string) bool { return strings.HasPrefix(upper, name) }) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			return err
		}
		m.texts = append(m.texts, strings.TrimSpace(string(text)))
		if cover := licensecheck.Scan(text); cover.Percent >= recognised {
			for _, match := range cover.Match {
				// Go's grant of patents is not a licence that SPDX has a name for; its text is given with the others.
				if match.ID != "GooglePatentsFile" && !slices.Contains(found, match.ID) {
					found = append(found, match.ID)
				}
			}
		}
	}
	if len(found) == 0 {
		return fmt.Errorf("%s %s: its licence is not recognised", m.path, m.version)
	}
	slices.Sort(found)
	m.licence = strings.Join(found, " AND ")
	return nil
}

// licenceTexts is what the authors of modules want to be given to everybody who is given their code.
func licenceTexts(modules []module) string {
	var b strings.Builder
	b.WriteString("Licences of the libraries in the program nigh.\n")
	for _, m := range modules {
		name := m.path + " " + m.version
		if m.sum == "" {
			name = "Go's standard library and runtime, " + m.version
		}
		fmt.Fprintf(&b, "\n%s\n%s (%s)\n%s\n\n%s\n", strings.Repeat("=", 72), name, m.licence, strings.Repeat("=", 72), strings.Join(m.texts, "\n\n"))
	}
	return b.String()
}

// sbom lists what is in the program, as an SPDX document (https://spdx.github.io/spdx-spec/v2.3).
func (p *packed) sbom(info *debug.BuildInfo, modules []module) ([]byte, error) {
	program, err := os.ReadFile(p.program)
	if err != nil {
		return nil, err
	}
	weak, strong := sha1.Sum(program), sha256.Sum256(program) // the specification demands SHA-1
	v := p.release.version
	doc := v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName:      "nigh-" + v.number + "-" + p.arch.name,
		DocumentNamespace: "urn:nigh:spdx:" + v.number + ":" + p.arch.name + ":" + hex.EncodeToString(strong[:]),
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "nigh-release"}}, Created: v.date.Format(time.RFC3339),
		},
		Files: []*v2_3.File{{
			FileName: "./usr/bin/nigh", FileSPDXIdentifier: "program", FileTypes: []string{"BINARY"},
			Checksums: []common.Checksum{
				{Algorithm: common.SHA1, Value: hex.EncodeToString(weak[:])}, {Algorithm: common.SHA256, Value: hex.EncodeToString(strong[:])},
			},
			LicenseConcluded: "NOASSERTION", FileCopyrightText: "NOASSERTION",
		}},
	}
	own := common.ElementID("nigh")
	relate := func(a common.ElementID, kind string, b common.ElementID) {
		doc.Relationships = append(doc.Relationships, &v2_3.Relationship{
			RefA: common.DocElementID{ElementRefID: a}, RefB: common.DocElementID{ElementRefID: b}, Relationship: kind,
		})
	}
	add := func(id common.ElementID, name, number, licence, purl string) *v2_3.Package {
		one := &v2_3.Package{
			PackageName: name, PackageSPDXIdentifier: id, PackageVersion: number, PackageDownloadLocation: "NOASSERTION",
			PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: licence, PackageCopyrightText: "NOASSERTION",
			PackageExternalReferences: []*v2_3.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: purl}},
		}
		doc.Packages = append(doc.Packages, one)
		return one
	}
	main := add(own, "nigh", v.number, "MIT", "pkg:generic/nigh@"+v.number)
	main.PackageSourceInfo, main.PrimaryPackagePurpose = "built with "+info.GoVersion+" for linux/"+p.arch.name, "APPLICATION"
	relate("DOCUMENT", "DESCRIBES", own)
	relate(own, "CONTAINS", "program")
	for i, m := range modules {
		id := common.ElementID(fmt.Sprintf("module-%d", i+1))
		one := add(id, m.path, m.version, m.licence, "pkg:golang/"+m.path+"@"+strings.ReplaceAll(m.version, "+", "%2B"))
		if m.sum != "" {
			one.PackageSourceInfo = "go.sum has " + m.sum
		}
		relate(own, "DEPENDS_ON", id)
	}
	raw, err := json.MarshalIndent(doc, "", "  ")
	return append(raw, '\n'), err
}
