package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// journalPath is where root keeps what remedies did: it is about the machine, not about one user's agent.
const journalPath = "/var/lib/nigh/fixes.json"

// maxDeeds bounds the journal: there are a dozen remedies.
const maxDeeds = 64

// deed is what a remedy did, and how it is taken back. It may name more than was done, never less.
type deed struct {
	Name  string     `json:"name"`
	Path  string     `json:"path,omitempty"` // file that was written; "" = none, or it was there before
	Text  string     `json:"text,omitempty"`
	Above string     `json:"above,omitempty"` // outermost of the folders that were made for the file; "" = none
	Back  [][]string `json:"back,omitempty"`
	After [][]string `json:"after,omitempty"`
}

// parseDeeds reads a journal. What is in it will be run by root: a damaged one is refused.
func parseDeeds(raw []byte) ([]deed, error) {
	var all []deed
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	if len(all) > maxDeeds {
		return nil, errors.New("too many entries")
	}
	for _, d := range all {
		if d.Name == "" || slices.ContainsFunc(slices.Concat(d.Back, d.After), func(c []string) bool { return len(c) == 0 || c[0] == "" || strings.Contains(c[0], "/") }) {
			return nil, errors.New("not an entry of nigh")
		}
		if d.Above != "" && !below(filepath.Dir(d.Path), d.Above) {
			return nil, errors.New("not an entry of nigh")
		}
	}
	return all, nil
}

// below reports whether a clean path is a folder or lies in it.
func below(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// outermost returns the first of the folders that have to be made for a file, "" when its folder is there.
func outermost(path string) string {
	folder, there := filepath.Dir(path), Existing(filepath.Dir(path))
	if folder == there {
		return ""
	}
	for filepath.Dir(folder) != there {
		folder = filepath.Dir(folder)
	}
	return folder
}

// tidy removes the folders that were made for the file. One that somebody else uses by now, or has put something in the place of,
// stays, with those above it.
func (d deed) tidy() {
	if d.Above == "" {
		return
	}
	for folder := filepath.Dir(d.Path); below(folder, d.Above); folder = filepath.Dir(folder) {
		if err := syscall.Rmdir(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

func (r *Remedy) deeds() ([]deed, error) {
	raw, err := os.ReadFile(r.journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("doctor: journal: %w", err)
	}
	all, err := parseDeeds(raw)
	if err != nil {
		return nil, fmt.Errorf("doctor: journal %s is damaged: %w", r.journal, err)
	}
	return all, nil
}

// done returns what this remedy did, the zero deed when nothing.
func (r *Remedy) done() (deed, error) {
	all, err := r.deeds()
	if err != nil {
		return deed{}, err
	}
	if i := slices.IndexFunc(all, func(d deed) bool { return d.Name == r.Name }); i >= 0 {
		return all[i], nil
	}
	return deed{}, nil
}

func (r *Remedy) note(d deed) error {
	return r.change(func(all []deed) []deed { return append(all, d) })
}

func (r *Remedy) forget() error { return r.change(func(all []deed) []deed { return all }) }

// change rewrites the journal, without what this remedy has in it.
func (r *Remedy) change(with func([]deed) []deed) error {
	all, err := r.deeds()
	if err != nil {
		return err
	}
	all = with(slices.DeleteFunc(all, func(d deed) bool { return d.Name == r.Name }))
	if len(all) == 0 {
		if err := os.Remove(r.journal); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("doctor: journal: %w", err)
		}
		return nil
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("doctor: journal: %w", err)
	}
	if err := replaceFile(r.journal, string(raw)+"\n", 0o644); err != nil {
		return fmt.Errorf("doctor: journal: %w", err)
	}
	return nil
}
