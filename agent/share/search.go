package share

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"nigh/agent/content"
	"nigh/agent/receive"
)

// A query is what a search looks for: words, or a hash.
type query struct {
	words [][]byte // folded
	hash  content.Hash
}

// parseQuery returns [ErrProtocol] for a query without a word or over a bound.
func parseQuery(text string) (query, error) {
	if len(text) > MaxQuery || !utf8.ValidString(text) {
		return query{}, fmt.Errorf("%w: query", ErrProtocol)
	}
	q := query{words: bytes.Fields([]byte(receive.Fold(text)))}
	if len(q.words) == 0 || len(q.words) > maxWords {
		return query{}, fmt.Errorf("%w: query of %d words", ErrProtocol, len(q.words))
	}
	return q, nil
}

// CheckQuery returns an error unless text can be searched for.
func CheckQuery(text string) error {
	_, err := parseQuery(text)
	return err
}

// A matcher looks for the words of a query in the entries of one share. They come directory by directory.
type matcher struct {
	query
	dir   []byte // the last one
	inDir uint   // bit i: word i occurs in its path
	known bool
	buf   []byte
}

// match reports whether the words are in the path of the entry, at least one in its name.
func (m *matcher) match(v *visit) bool {
	if !m.known || !bytes.Equal(v.dir, m.dir) {
		m.dir, m.known, m.inDir = append(m.dir[:0], v.dir...), true, m.occur(v.dir)
	}
	in := m.occur(v.name)
	return in != 0 && in|m.inDir == 1<<len(m.words)-1
}

// occur returns which words occur in text.
func (m *matcher) occur(text []byte) (in uint) {
	m.buf = m.buf[:0]
	for _, c := range text {
		if c >= utf8.RuneSelf {
			m.buf = append(m.buf[:0], receive.Fold(string(text))...)
			break
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A' // what folding does to ASCII, at a tenth of the price
		}
		m.buf = append(m.buf, c)
	}
	for i, word := range m.words {
		if bytes.Contains(m.buf, word) {
			in |= 1 << i
		}
	}
	return in
}

// errEnough ends a pass over the index.
var errEnough = errors.New("share: enough")

// searched ends a search. The index is not kept in memory between searches.
func (s *Shares) searched(done func() (last bool)) {
	if done() {
		s.cfg.Store.Release()
	}
}

// find calls fn for what the query finds in a share, until fn returns false or ctx ends. It reports whether it came to the end.
func (s *Shares) find(ctx context.Context, rec *record, q query, fn func(path string, e *entry) bool) (whole bool, err error) {
	m := matcher{query: q}
	err = s.db.scan(ctx, rec.ID, func(v *visit) error {
		if q.hash.IsZero() && !m.match(v) {
			return nil
		}
		e, err := decode(v.raw)
		if err != nil {
			return nil // the next scan finds it different and writes it anew
		}
		if !q.hash.IsZero() && (e.dir || e.hash != q.hash) {
			return nil
		}
		if path := v.path(); rec.skips(path) || fn(path, &e) {
			return nil
		}
		return errEnough
	})
	if errors.Is(err, errEnough) {
		return false, nil
	}
	return err == nil, err
}
