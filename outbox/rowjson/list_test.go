package rowjson

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
)

func TestAListIsReadDocumentByDocument(t *testing.T) {
	docs := []string{`{"id":1,"v":"a"}`, `{"id":2,"v":"]}, {\"id\":3"}`, `{"v":null,"x":[{"id":9}],"id":3}`, `{}`}
	for _, sep := range []string{",", ", ", ", \n "} {
		list := ListOf([]byte("[" + strings.Join(docs, sep) + "]"))
		dec, err := NewDecoder(pgtype.NewMap(), []Column{{Name: "id", Type: intType}})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range docs {
			if more, err := list.More(); !more || err != nil {
				t.Fatalf("before document %d: %v, %v", i, more, err)
			}
			var doc []byte
			if i%2 == 0 {
				doc, err = list.Skip()
			} else {
				var row *Row
				if doc, row, err = list.Decode(dec); err == nil && row.Absent(0) != (want == "{}") {
					t.Errorf("document %d: no id: %v", i, row.Absent(0))
				}
			}
			if err != nil || string(doc) != want {
				t.Errorf("document %d is %s, %v; want %s", i, doc, err, want)
			}
		}
		if more, err := list.More(); more || err != nil {
			t.Errorf("after the last: %v, %v", more, err)
		}
	}
}

func TestWhatIsNoListIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		``: "want '['", `{}`: "want '['", `[`: "want a document, have the end", `[]`: "want a document", `[1]`: "want a document", `[{}`: "want ','",
		`[{},]`: "want a document", `[{} {}]`: "want ','", `[{}] x`: "something after the document", `[{]`: "want a column's name", `[{"a":"]`: "without an end", `[[{}]]`: "want a document",
	} {
		list := ListOf([]byte(text))
		dec, err := NewDecoder(pgtype.NewMap(), []Column{{Name: "id", Type: intType}})
		if err != nil {
			t.Fatal(err)
		}
		for more := true; more && err == nil; {
			if more, err = list.More(); more && err == nil {
				_, _, err = list.Decode(dec)
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
