package serve

import "net/http"

// Guard puts in front of a page what a Handler with these options asks of a request.
func Guard(page http.Handler, o Options) http.Handler {
	h := New(Declare(nil), o)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.admit(w, r) {
			page.ServeHTTP(w, r)
		}
	})
}
