package share

import (
	"fmt"
	"slices"
	"strings"

	"nigh/agent/clean"
	"nigh/agent/identity"
	"nigh/agent/receive"
)

// A Change of a share. What is nil stays as it is.
type Change struct {
	Name   *string
	For    *[]identity.DeviceID // empty: all trusted devices
	Hidden *bool
}

// Change changes a share and returns it. Its index stays, with every hash in it. Names that begin with a dot are served no more at once;
// those that are to be served come with the scan that it begins. It returns [ErrUnknown], [ErrName], [ErrExists] or [ErrFull].
func (s *Shares) Change(name string, c Change) (Info, error) {
	if c.Name != nil {
		if err := checkShareName(*c.Name); err != nil {
			return Info{}, err
		}
	}
	if c.For != nil && len(*c.For) > MaxDevices {
		return Info{}, fmt.Errorf("%w: more than %d devices", ErrFull, MaxDevices)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.named(name)
	if f == nil {
		return Info{}, ErrUnknown
	}
	r := f.record
	if c.Name != nil {
		if other := s.named(*c.Name); other != nil && other != f {
			return Info{}, fmt.Errorf("%w: a share is called %s", ErrExists, clean.Text(other.Name))
		}
		r.Name = *c.Name
	}
	if c.For != nil {
		r.For = slices.Clone(*c.For)
	}
	if c.Hidden != nil {
		r.Hidden = *c.Hidden
	}
	if err := s.cfg.Store.Bucket(bucketShares).Put([]byte(r.ID), r); err != nil {
		return Info{}, fmt.Errorf("share: change: %w", err)
	}
	if r.Hidden != f.Hidden {
		f.all = true
		signal(s.scan)
	}
	f.record = r
	s.log.Info("Share changed", "share", r.ID)
	return s.info(f), nil
}

// named returns the share of that name, in any case and Unicode form, or nil; with mu held.
func (s *Shares) named(name string) *folder {
	for _, f := range s.folders {
		if receive.Fold(f.Name) == receive.Fold(name) {
			return f
		}
	}
	return nil
}

// skips reports whether a path has a name that is left out. The index may have it for a moment, after a change.
func (r *record) skips(path string) bool {
	if r.Hidden {
		return false // the index never has the others
	}
	return path != "." && path != "" && (path[0] == '.' || strings.Contains(path, "/."))
}
