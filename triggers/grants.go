package triggers

import "fmt"

// Grants is the SQL that gives a role what it needs on the schema: kind is
// "reader" (a node; it needs SELECT on the tables that it keeps besides), "relay" or
// "trimmer". An application role needs nothing: its writes are captured all the same.
func Grants(o Options, kind, role string) (string, error) {
	o = o.withDefaults()
	switch kind {
	case "reader", "relay", "trimmer":
	default:
		return "", fmt.Errorf("triggers: no grants for %q: want reader, relay or trimmer", kind)
	}
	vars := o.vars()
	vars["role"] = role
	return render("grants_"+kind+".sql", vars)
}
