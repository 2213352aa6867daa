package cli_test

import (
	"context"

	"nigh/agent/control"
)

// shared is the part of a script about shares.
type shared struct {
	Shares   []control.Share      `json:"shares"`
	Added    control.Share        `json:"added"`
	Listings []control.Listing    `json:"listings"` // the pages, in turn by After
	Answer   control.SearchAnswer `json:"answer"`
	Got      control.Transfer     `json:"got"`
}

func (s served) Shares(ctx context.Context) ([]control.Share, error) {
	return s.b.Shares, s.b.ask(ctx, "Shares")
}
func (s served) AddShare(ctx context.Context, r control.ShareRequest) (control.Share, error) {
	return s.b.Added, s.b.ask(ctx, "AddShare", r)
}
func (s served) ChangeShare(ctx context.Context, name string, r control.ShareChange) (control.Share, error) {
	return s.b.Added, s.b.ask(ctx, "ChangeShare", name, r)
}
func (s served) RemoveShare(ctx context.Context, name string) error {
	return s.b.ask(ctx, "RemoveShare", name)
}

// Browse answers with the first listing of the share and path, or the one after
// the page that ends with r.After.
func (s served) Browse(ctx context.Context, r control.BrowseRequest) (control.Listing, error) {
	err := s.b.ask(ctx, "Browse", r)
	last := ""
	for _, l := range s.b.Listings {
		if l.Share != r.Share || l.Path != r.Path {
			continue
		}
		if last == r.After {
			return l, err
		}
		if n := len(l.Entries); n > 0 {
			last = l.Entries[n-1].Name
		}
	}
	return control.Listing{}, err
}
func (s served) Search(ctx context.Context, r control.SearchRequest, each func(control.SearchAnswer)) (control.SearchAnswer, error) {
	for i := range s.b.Answer.Results {
		if each != nil {
			each(control.SearchAnswer{Results: s.b.Answer.Results[i : i+1]})
		}
	}
	return s.b.Answer, s.b.ask(ctx, "Search", r)
}
func (s served) Get(ctx context.Context, r control.GetRequest) (control.Transfer, error) {
	return s.b.Got, s.b.ask(ctx, "Get", r)
}
