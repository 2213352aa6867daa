package share

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
	"nigh/agent/receive"
)

const pathGet = "/v1/shares/get"

// call makes a request and reads its answer into answer. A busy device is asked again a few times. It returns the errors of this package.
func (s *Shares) call(ctx context.Context, peer identity.DeviceID, method, path string, body, answer any) error {
	patience := askTime
	if path == pathGet {
		patience = getTime
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	for try := 1; ; try++ {
		err := s.callOnce(ctx, peer, method, path, p, answer)
		if !errors.Is(err, ErrBusy) || try == busyTries {
			return err
		}
		select {
		case <-time.After(busyWait):
		case <-ctx.Done():
			return err
		}
	}
}

func (s *Shares) callOnce(ctx context.Context, peer identity.DeviceID, method, path string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://nigh"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInternal, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.cfg.Peers.Control(peer).Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusTooManyRequests {
		return ErrBusy
	}
	if resp.StatusCode/100 != 2 {
		var r refusal
		if err := readJSON(resp.Body, maxBody, &r); err != nil {
			if resp.StatusCode == http.StatusNotFound {
				return ErrNotFound // a nigh that has no shares
			}
			return fmt.Errorf("%w: status %d", ErrProtocol, resp.StatusCode)
		}
		if err := byCode[r.Code]; err != nil {
			return err
		}
		return fmt.Errorf("%w: status %d", ErrProtocol, resp.StatusCode)
	}
	if err := readJSON(io.LimitReader(resp.Body, maxAnswer+1), maxAnswer, answer); errors.Is(err, ErrProtocol) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return nil
}

// Of returns the shares of a device that this one may see, by name.
func (s *Shares) Of(ctx context.Context, peer identity.DeviceID) ([]Remote, error) {
	var a sharesAnswer
	if err := s.call(ctx, peer, http.MethodGet, "/v1/shares", nil, &a); err != nil {
		return nil, err
	}
	if len(a.Shares) > MaxShares {
		return nil, fmt.Errorf("%w: %d shares", ErrProtocol, len(a.Shares))
	}
	for i := range a.Shares {
		if err := a.Shares[i].check(); err != nil {
			return nil, err
		}
	}
	return a.Shares, nil
}

// Browse returns a page of a folder of a device's share, after the name after. path is "." for the share itself; a file is a page of itself.
func (s *Shares) Browse(ctx context.Context, peer identity.DeviceID, share, path, after string, limit int) (Page, error) {
	var page Page
	if err := s.call(ctx, peer, http.MethodPost, "/v1/shares/browse", browseRequest{share, path, after, limit}, &page); err != nil {
		return Page{}, err
	}
	if len(page.Entries) > MaxPage || page.More && len(page.Entries) == 0 {
		return Page{}, fmt.Errorf("%w: page of %d entries", ErrProtocol, len(page.Entries))
	}
	for i := range page.Entries {
		e := &page.Entries[i]
		if err := e.check(); err != nil {
			return Page{}, err
		}
		// The order is what lets pages end.
		if receive.CheckName(e.Name) != nil || e.Name <= after {
			return Page{}, fmt.Errorf("%w: name or order of a page", ErrProtocol)
		}
		after = e.Name
	}
	return page, nil
}

// A Holder is where a result of a search lies.
type Holder struct {
	Peer  identity.DeviceID
	Share string
	Path  string
}

// A Result of a search: one content, or one entry whose content is not known.
type Result struct {
	Entry            // of the first holder
	Holders []Holder // at least one
}

// Found is what a search over several devices came to.
type Found struct {
	Results []Result
	More    bool                // a device has more than it told
	Failed  []identity.DeviceID // did not answer in time, or not by the protocol
}

// Search asks devices for what fits the words of text, or for a content when hash is not zero, all at the same time and each for at most
// patience. Equal contents are one result. each, unless it is nil, gets what an answer adds as soon as it comes: results that are new, and
// those that have one more holder; the devices that failed come at the end only. One call at a time.
func (s *Shares) Search(ctx context.Context, peers []identity.DeviceID, text string, hash content.Hash, patience time.Duration, each func(Found)) Found {
	type reply struct {
		peer   identity.DeviceID
		answer searchAnswer
		err    error
	}
	replies := make(chan reply)
	asking := make(chan struct{}, maxAsking)
	for _, peer := range peers {
		go func() { // ends with its request, which ends with ctx or patience; below there is one receive for each
			asking <- struct{}{}
			defer func() { <-asking }()
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			r := reply{peer: peer}
			if r.err = s.call(ctx, peer, http.MethodPost, "/v1/shares/search", searchRequest{Query: text, Hash: hash}, &r.answer); r.err == nil {
				r.err = r.answer.check(hash)
			}
			replies <- r
		}()
	}
	var f Found
	byHash := map[content.Hash]int{}
	var failed []identity.DeviceID
	for range peers {
		r := <-replies
		if r.err != nil {
			if !errors.Is(r.err, ErrNotFound) { // a nigh that has no shares
				s.log.Debug("Search failed at a device", "peer", r.peer.Short(), "err", r.err)
				failed = append(failed, r.peer)
			}
			continue
		}
		f.More = f.More || r.answer.More
		if news := f.add(r.peer, r.answer.Results, byHash); each != nil && len(news) > 0 {
			each(Found{Results: news})
		}
	}
	for _, peer := range peers {
		if slices.Contains(failed, peer) {
			f.Failed = append(f.Failed, peer)
		}
	}
	sortResults(f.Results)
	return f
}

// add takes what a device has, and returns what is new by that, in the order of names.
func (f *Found) add(peer identity.DeviceID, entries []Entry, byHash map[content.Hash]int) []Result {
	var changed []int // of f.Results
	for _, e := range entries {
		h := Holder{peer, e.Share, e.Path}
		if n, ok := byHash[e.Hash]; ok && !e.Hash.IsZero() {
			f.Results[n].Holders = append(f.Results[n].Holders, h)
			if !slices.Contains(changed, n) {
				changed = append(changed, n)
			}
			continue
		}
		if len(f.Results) == maxFound {
			f.More = true
			continue
		}
		n := len(f.Results)
		byHash[e.Hash] = n
		changed = append(changed, n)
		_, e.Name = splitPath(e.Path)
		f.Results = append(f.Results, Result{e, []Holder{h}})
	}
	news := make([]Result, 0, len(changed))
	for _, n := range changed {
		r := f.Results[n]
		r.Holders = slices.Clip(r.Holders) // what is added to it later is no news of now
		news = append(news, r)
	}
	sortResults(news)
	return news
}

func sortResults(list []Result) {
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return cmp.Or(strings.Compare(receive.Fold(a.Name), receive.Fold(b.Name)), strings.Compare(a.Path, b.Path)) < 0
	})
}

func (a *searchAnswer) check(hash content.Hash) error {
	if len(a.Results) > MaxResults {
		return fmt.Errorf("%w: %d results", ErrProtocol, len(a.Results))
	}
	for i := range a.Results {
		e := &a.Results[i]
		if err := e.check(); err != nil {
			return err
		}
		if checkShareName(e.Share) != nil || receive.CheckPath(e.Path) != nil || !hash.IsZero() && e.Hash != hash {
			return fmt.Errorf("%w: result", ErrProtocol)
		}
	}
	return nil
}

// A Want is what this device asked for.
type Want struct {
	Peer  identity.DeviceID `json:"peer"`
	Share string            `json:"share,omitempty"`
	Path  string            `json:"path,omitempty"`
	Hash  content.Hash      `json:"hash,omitzero"` // the content that it must have; zero when any is right
	Into  string            `json:"into"`          // absolute path of the folder to receive into
}

// expected is a want whose offer has not come, under the transfer name that we chose.
type expected struct {
	X string `json:"x"`
	Want
}

// Get asks a device to offer what is wanted, and returns the name x of the transfer that it will be. The offer is one to accept: see
// [Shares.Expected]. After an error nothing is expected.
func (s *Shares) Get(ctx context.Context, w Want) (x string, err error) {
	var b [16]byte
	rand.Read(b[:]) // never fails
	e := expected{hex.EncodeToString(b[:]), w}
	if err := s.expect(e); err != nil {
		return "", err
	}
	req := getRequest{X: e.X, Share: w.Share, Path: w.Path}
	if w.Share == "" {
		req = getRequest{X: e.X, Hash: w.Hash}
	}
	var answer struct{}
	if err := s.call(ctx, w.Peer, http.MethodPost, pathGet, req, &answer); err != nil {
		s.Arrived(w.Peer, e.X)
		return "", err
	}
	return e.X, nil
}

// expect keeps what was asked for, also over a restart: the offer may come after it. The oldest makes way.
func (s *Shares) expect(e expected) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.cfg.Store.Bucket(bucketExpected)
	if len(s.expected) >= maxExpected {
		if err := b.Delete([]byte(s.expected[0].X)); err != nil {
			return fmt.Errorf("share: expect: %w", err)
		}
		s.expected = s.expected[1:]
	}
	if err := b.Put([]byte(e.X), e); err != nil {
		return fmt.Errorf("share: expect: %w", err)
	}
	s.expected = append(s.expected, e)
	return nil
}

// Expected returns what was asked of peer as transfer x, false when nothing was. It is expected until [Shares.Arrived].
func (s *Shares) Expected(peer identity.DeviceID, x string) (Want, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.expectedAt(peer, x); i >= 0 {
		return s.expected[i].Want, true
	}
	return Want{}, false
}

// Arrived says that the transfer x from peer is known, or given up: it is expected no more.
func (s *Shares) Arrived(peer identity.DeviceID, x string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.expectedAt(peer, x)
	if i < 0 {
		return
	}
	s.expected = slices.Delete(s.expected, i, i+1)
	if err := s.cfg.Store.Bucket(bucketExpected).Delete([]byte(x)); err != nil {
		s.log.Warn("A request stays in the database", "err", err)
	}
}

func (s *Shares) expectedAt(peer identity.DeviceID, x string) int {
	return slices.IndexFunc(s.expected, func(e expected) bool { return e.X == x && e.Peer == peer })
}

func (s *Shares) loadExpected() error {
	return s.cfg.Store.Bucket(bucketExpected).ForEach(func(key, raw []byte) error {
		var e expected
		if err := json.Unmarshal(raw, &e); err != nil || e.X != string(key) {
			s.log.Warn("Stored request not read", "err", err)
			return nil
		}
		s.expected = append(s.expected, e)
		return nil
	})
}
