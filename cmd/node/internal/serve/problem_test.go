package serve

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestThePageExplainsEveryTypeOfProblem(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	explained := regexp.MustCompile(`(?m)^### ([a-z-]+)\n(\d+)\. `).FindAllStringSubmatch(string(page), -1)
	all := []kind{badRequest, unauthorized, foreign, forbidden, notFound, notAllowed, conflict, otherHistory, tooLarge, notJSON, refused, failed, unavailable, notHereYet, outcomeUnknown}
	if n := strings.Count(string(source), "= kind{"); n != len(all) || n != len(explained) {
		t.Errorf("%d types, %d here, %d explained", n, len(all), len(explained))
	}
	for i, k := range all {
		if i >= len(explained) || explained[i][1] != k.word || explained[i][2] != fmt.Sprint(k.status) {
			t.Errorf("%d %s is not explained at its place", k.status, k.word)
		}
	}
}
