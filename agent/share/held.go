package share

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// A Held is a file of a share that a device may see.
type Held struct {
	Hash  content.Hash
	Root  string                                          // absolute path of the shared folder
	Path  string                                          // below it
	Known func(path string, st *unix.Stat_t) content.Hash // as Offer.Hash
	Still func() bool                                     // whether the share is there and the device may see it
}

// Held returns those of the contents that lie in shares which peer may see, a file for each. It passes once over their index, for at most
// the time of a search, and returns [ErrBusy] when the device, or all together, search too much.
func (s *Shares) Held(ctx context.Context, peer identity.DeviceID, of []content.Hash) ([]Held, error) {
	list := s.of(peer)
	if len(list) == 0 {
		return nil, nil
	}
	done, ok := s.gate.search(peer)
	if !ok {
		return nil, ErrBusy
	}
	defer s.searched(done)
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	want := make(map[content.Hash]bool, len(of))
	for _, h := range of {
		want[h] = !h.IsZero()
	}
	var found []Held
	for _, sight := range list {
		if !s.present(sight.f) {
			continue
		}
		rec := sight.rec
		err := s.db.scan(ctx, rec.ID, func(v *visit) error {
			e, err := decode(v.raw)
			if err != nil || e.dir || !want[e.hash] {
				return nil
			}
			path := v.path()
			if rec.skips(path) {
				return nil
			}
			want[e.hash] = false // one file of each
			found = append(found, Held{Hash: e.hash, Root: rec.Folder, Path: path, Known: known(path, &e),
				Still: func() bool { return s.Sees(peer, rec.ID) }})
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return nil, fmt.Errorf("%w: %w", ErrInternal, err)
		}
	}
	return found, nil
}
