package transfer

import (
	"errors"
	"fmt"
	"io/fs"

	"nigh/agent/content"
	"nigh/agent/receive"
)

// A topName is the top-level name that the planner is at.
type topName struct {
	name, part string
	skip       bool // by policy, or has its final name: nothing of it is received
	fresh      bool // its part was not there: what the journal tells of it is no longer so
}

func (p *pull) beginTop(e *Entry, n int) (topName, error) {
	top := topName{name: e.Path, part: partName(p.t.rec.ID, e.Path, n)}
	if p.isPlaced(n, top.part) {
		top.skip = true
		return top, nil
	}
	if policy := p.e.cfg.Conflict; policy != receive.Rename && p.folder.Exists(e.Path) {
		if policy == receive.Refuse {
			return top, fmt.Errorf("%w: %q", ErrExists, e.Path)
		}
		top.skip = true
		return top, nil
	}
	top.fresh = !p.folder.Exists(top.part)
	return top, nil
}

func (p *pull) mkdir(w *receive.Writer, e *Entry, part string) error {
	if !e.top() {
		if err := w.Mkdir(part); err != nil && !errors.Is(err, fs.ErrExist) {
			return err // whatever lies in it cannot be written
		}
	}
	p.finish(e, content.Hash{})
	return nil
}
