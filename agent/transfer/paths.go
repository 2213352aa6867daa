package transfer

import (
	"path/filepath"
)

// Paths returns what the unfinished transfers of the store need of this machine's files, as the person once named it: what is sent, and the
// folders that are received into. What a device asked for of a share is not among it.
func (e *Engine) Paths() (read, write []string) {
	e.mu.Lock()
	var sources []string
	for _, t := range e.all {
		switch {
		case t.rec.State.final() || t.rec.Origin != "":
		case t.rec.Direction == Send:
			sources = append(sources, t.rec.Source)
		case t.rec.Into != "":
			write = append(write, t.rec.Into)
		}
	}
	e.mu.Unlock()
	for _, key := range sources {
		var r sourceRecord
		if err := e.db.s.Bucket(bucketSources).Get([]byte(key), &r); err != nil {
			continue // said when it is sent
		}
		for _, at := range r.Places {
			read = append(read, filepath.Join(at.Dir, at.Name))
		}
	}
	return read, write
}
