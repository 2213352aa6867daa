package share

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sort"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// Handler serves the endpoints of doc.go: /v1/shares and what is below it.
func (s *Shares) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(context.Context, *http.Request, identity.DeviceID) (status int, answer any, err error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			peer, ok := s.cfg.Caller(r)
			if !ok {
				refuse(w, ErrNotFound)
				return
			}
			status, answer, err := http.StatusTooManyRequests, any(nil), ErrBusy
			if s.gate.request(peer) {
				status, answer, err = fn(r.Context(), r, peer)
			}
			if err != nil {
				s.log.Debug("Share request refused", "peer", peer.Short(), "err", err)
				refuse(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false) // six bytes for one would break the bound of answers
			_ = enc.Encode(answer)   // a lost peer is noticed on the connection
		})
	}
	handle("GET /v1/shares", s.serveShares)
	handle("POST /v1/shares/browse", s.serveBrowse)
	handle("POST /v1/shares/search", s.serveSearch)
	handle("POST "+pathGet, s.serveGet)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, ErrNotFound) })
	return mux
}

// seen is a share that a device may see, as it was when the device asked.
type seen struct {
	f   *folder
	rec record
}

// of returns what a device may see, by name.
func (s *Shares) of(peer identity.DeviceID) []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []seen
	for _, f := range s.folders {
		if s.sees(peer, f) {
			list = append(list, seen{f, f.record})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].rec.Name < list[j].rec.Name })
	return list
}

func (s *Shares) serveShares(_ context.Context, _ *http.Request, peer identity.DeviceID) (int, any, error) {
	answer := sharesAnswer{Shares: []Remote{}}
	for _, v := range s.of(peer) {
		there := s.present(v.f)
		s.mu.Lock()
		r := Remote{Name: v.rec.Name, Files: v.f.files, Dirs: v.f.dirs, Bytes: v.f.bytes, State: v.f.state}
		s.mu.Unlock()
		if !there {
			r = Remote{Name: v.rec.Name, State: Missing}
		}
		answer.Shares = append(answer.Shares, r)
	}
	return http.StatusOK, answer, nil
}

// present reports whether the folder of a share is there, and has it looked at when not.
func (s *Shares) present(f *folder) bool {
	s.mu.Lock()
	rec, state := f.record, f.state
	s.mu.Unlock()
	root, changed, err := rec.openRoot()
	if err == nil {
		_ = root.Close()
	}
	if (err != nil || changed != 0) == (state == Missing) {
		return err == nil && changed == 0
	}
	s.mu.Lock()
	f.all = true
	s.mu.Unlock()
	signal(s.scan)
	return false
}

func (s *Shares) serveBrowse(_ context.Context, r *http.Request, peer identity.DeviceID) (int, any, error) {
	var req browseRequest
	if err := readJSON(r.Body, maxBody, &req); err != nil {
		return 0, nil, err
	}
	f, rec, err := s.visible(peer, req.Share)
	if err != nil {
		return 0, nil, err
	}
	path, err := cleanPath(req.Path)
	if err != nil {
		return 0, nil, err
	}
	if rec.skips(path) {
		return 0, nil, ErrNotFound
	}
	if !s.present(f) {
		return 0, nil, ErrUnavailable
	}
	dir := ""
	if path != "." {
		e, err := s.db.lookup(rec.ID, path)
		if err != nil {
			return 0, nil, err
		}
		if !e.dir {
			// A file is a page of itself.
			entry := e.wire()
			_, entry.Name = splitPath(path)
			return http.StatusOK, Page{Entries: []Entry{entry}}, nil
		}
		dir = path
	}
	page, err := s.page(&rec, dir, req.After, req.Limit)
	return http.StatusOK, page, err
}

// page returns the entries of a directory after a name.
func (s *Shares) page(rec *record, dir, after string, limit int) (Page, error) {
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	page := Page{Entries: []Entry{}}
	from, size := dirKey(rec.ID, dir), 0
	if after != "" {
		from = append(entryKey(rec.ID, dir, after), 0)
	}
	err := s.db.s.Bucket(bucketIndex).ForEachFrom(dirKey(rec.ID, dir), from, func(key, raw []byte) error {
		e, err := decode(raw)
		if err != nil {
			return nil // the next scan finds it different and writes it anew
		}
		_, name := splitKey(key)
		if rec.skips(name) {
			return nil
		}
		if len(page.Entries) == limit || size > maxPageBytes {
			page.More = true
			return errEnough
		}
		entry := e.wire()
		entry.Name = name
		size += len(entry.Name)
		page.Entries = append(page.Entries, entry)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Page{}, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	return page, nil
}

func (s *Shares) serveSearch(ctx context.Context, r *http.Request, peer identity.DeviceID) (int, any, error) {
	var req searchRequest
	if err := readJSON(r.Body, maxBody, &req); err != nil {
		return 0, nil, err
	}
	q := query{hash: req.Hash}
	if req.Hash.IsZero() {
		var err error
		if q, err = parseQuery(req.Query); err != nil {
			return 0, nil, err
		}
	}
	done, ok := s.gate.search(peer)
	if !ok {
		return 0, nil, ErrBusy
	}
	defer s.searched(done)
	if req.Limit <= 0 || req.Limit > MaxResults {
		req.Limit = MaxResults
	}
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	answer, size := searchAnswer{Results: []Entry{}}, 0
	for _, v := range s.of(peer) {
		if !s.present(v.f) {
			continue
		}
		whole, err := s.find(ctx, &v.rec, q, func(path string, e *entry) bool {
			if len(answer.Results) == req.Limit || size > maxPageBytes {
				return false
			}
			entry := e.wire()
			entry.Share, entry.Path = v.rec.Name, path
			size += len(path) + len(v.rec.Name)
			answer.Results = append(answer.Results, entry)
			return true
		})
		if err != nil {
			return 0, nil, fmt.Errorf("%w: %w", ErrInternal, err)
		}
		if !whole {
			answer.More = true
			break
		}
	}
	return http.StatusOK, answer, nil
}

func (s *Shares) serveGet(ctx context.Context, r *http.Request, peer identity.DeviceID) (int, any, error) {
	var req getRequest
	if err := readJSON(r.Body, maxBody, &req); err != nil {
		return 0, nil, err
	}
	if !validX(req.X) {
		return 0, nil, fmt.Errorf("%w: transfer name", ErrProtocol)
	}
	if !req.Hash.IsZero() {
		done, ok := s.gate.search(peer)
		if !ok {
			return 0, nil, ErrBusy
		}
		share, path, err := s.holds(ctx, peer, req.Hash)
		done()
		if err != nil {
			return 0, nil, err
		}
		req.Share, req.Path = share, path
	}
	f, rec, err := s.visible(peer, req.Share)
	if err != nil {
		return 0, nil, err
	}
	path, err := cleanPath(req.Path)
	if err != nil {
		return 0, nil, err
	}
	if rec.skips(path) {
		return 0, nil, ErrNotFound
	}
	offer := Offer{Peer: peer, X: req.X, Share: rec.ID, Name: rec.Name, Root: rec.Folder, Path: path, Skip: rec.skip}
	if path != "." {
		e, err := s.db.lookup(rec.ID, path)
		if err != nil {
			return 0, nil, err
		}
		if !e.dir {
			offer.Hash = known(path, &e)
			if !req.Hash.IsZero() && e.hash != req.Hash {
				return 0, nil, ErrNotFound
			}
		}
	}
	if !s.present(f) {
		return 0, nil, ErrUnavailable
	}
	if err := s.cfg.Send(ctx, offer); err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, struct{}{}, nil
}

// known returns the hash of one file of the index, as long as it is the one that the index has.
func known(path string, e *entry) func(string, *unix.Stat_t) content.Hash {
	return func(p string, st *unix.Stat_t) content.Hash {
		if got := entryOf(st); p != path || !got.same(e) {
			return content.Hash{}
		}
		return e.hash
	}
}

// holds finds a file with the content in what a device may see.
func (s *Shares) holds(ctx context.Context, peer identity.DeviceID, hash content.Hash) (share, path string, err error) {
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	for _, v := range s.of(peer) {
		if !s.present(v.f) {
			continue
		}
		_, err := s.find(ctx, &v.rec, query{hash: hash}, func(p string, _ *entry) bool {
			path = p
			return false
		})
		if err != nil {
			return "", "", fmt.Errorf("%w: %w", ErrInternal, err)
		}
		if path != "" {
			return v.rec.Name, path, nil
		}
	}
	return "", "", ErrNotFound
}

// validX reports whether x can be a transfer's name: 32 lower-case hexadecimal digits.
func validX(x string) bool {
	p, err := hex.DecodeString(x)
	return err == nil && len(p) == 16 && hex.EncodeToString(p) == x
}
