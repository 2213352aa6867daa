package share

import (
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"nigh/agent/content"
	"nigh/agent/receive"
)

// An Entry is a file or folder of a share, as its holder tells. Names and paths were checked by package receive and are to be escaped before
// they are shown.
type Entry struct {
	Name       string       `json:"name,omitempty"` // of a page
	Share      string       `json:"share,omitempty"`
	Path       string       `json:"path,omitempty"` // below the share, of a search
	Dir        bool         `json:"dir,omitempty"`
	Executable bool         `json:"executable,omitempty"`
	Size       int64        `json:"size"`
	Mtime      int64        `json:"mtime"`         // seconds since 1970
	Hash       content.Hash `json:"hash,omitzero"` // zero: not known yet, or a folder
}

func (e *entry) wire() Entry {
	sec := e.mtime / 1e9
	if e.mtime%1e9 < 0 {
		sec--
	}
	return Entry{Dir: e.dir, Executable: e.executable, Size: e.size, Mtime: sec, Hash: e.hash}
}

// check returns [ErrProtocol] unless a holder may say so of an entry.
func (e *Entry) check() error {
	if e.Size < 0 || e.Dir && (e.Size != 0 || !e.Hash.IsZero()) {
		return fmt.Errorf("%w: entry", ErrProtocol)
	}
	return nil
}

// A Remote is a share of another device.
type Remote struct {
	Name  string `json:"name"`
	Files int    `json:"files"`
	Dirs  int    `json:"dirs"`
	Bytes int64  `json:"bytes"`
	State State  `json:"state"`
}

func (r *Remote) check() error {
	if checkShareName(r.Name) != nil || r.Files < 0 || r.Dirs < 0 || r.Bytes < 0 {
		return fmt.Errorf("%w: share", ErrProtocol)
	}
	switch r.State {
	case Scanning, Ready, Missing, Full:
		return nil
	}
	return fmt.Errorf("%w: state of a share", ErrProtocol)
}

type sharesAnswer struct {
	Shares []Remote `json:"shares"`
}

type browseRequest struct {
	Share string `json:"share"`
	Path  string `json:"path"`            // "." or "" for the share itself
	After string `json:"after,omitempty"` // the last name of the page before
	Limit int    `json:"limit,omitempty"` // 0: as many as there may be
}

// A Page is a part of a folder.
type Page struct {
	Entries []Entry `json:"entries"`
	More    bool    `json:"more,omitempty"`
}

type searchRequest struct {
	Query string       `json:"query,omitempty"`
	Hash  content.Hash `json:"hash,omitzero"` // instead of Query
	Limit int          `json:"limit,omitempty"`
}

type searchAnswer struct {
	Results []Entry `json:"results"`
	More    bool    `json:"more,omitempty"` // there may be more
}

type getRequest struct {
	X     string       `json:"x"`
	Share string       `json:"share,omitempty"`
	Path  string       `json:"path,omitempty"`
	Hash  content.Hash `json:"hash,omitzero"` // instead of Share and Path
}

// cleanPath returns the path of an entry below a share as the index has it, "." for the share itself. It returns [ErrNotFound] for what no
// index can have, so that nobody learns more from a strange path.
func cleanPath(path string) (string, error) {
	if path == "" || path == "." {
		return ".", nil
	}
	if receive.CheckPath(path) != nil {
		return "", ErrNotFound
	}
	return path, nil
}

// readJSON reads one JSON value of at most limit bytes and nothing after it.
func readJSON(body io.Reader, limit int64, v any) error {
	p, err := io.ReadAll(io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return err
	case int64(len(p)) > limit:
		return fmt.Errorf("%w: over %d bytes", ErrProtocol, limit)
	case !utf8.Valid(p):
		return fmt.Errorf("%w: not UTF-8", ErrProtocol)
	}
	if err := json.Unmarshal(p, v); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}
