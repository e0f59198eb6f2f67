package demo

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pglockstep/lockstep"
	"github.com/pglockstep/lockstep/cmd/node/internal/window"
)

// Department and Employee are the company's rows.
type Department struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Manager *int   `json:"manager"`
}

// Employee is one person.
type Employee struct {
	ID         int    `json:"id"`
	Name       string `json:"name"`
	Department int    `json:"department"`
	Salary     int64  `json:"salary"`
	Stamp      int64  `json:"stamp"`
}

// directory answers who manages whom. It is never stored: a cache that is
// told "employee, manager" goes stale when a department changes its manager; a
// view over both tables cannot.
type directory struct {
	departments *lockstep.Table[int, Department]
	employees   *lockstep.Table[int, Employee]
	staff       *lockstep.Index[int, int, Employee]
}

func newDirectory(company string) *directory {
	name := func(table string) string { return pgx.Identifier{company, table}.Sanitize() }
	d := &directory{
		departments: lockstep.NewTable(name("departments"), func(d Department) int { return d.ID }),
		employees:   lockstep.NewTable(name("employees"), func(e Employee) int { return e.ID }),
	}
	d.staff = lockstep.NewIndex(d.employees, func(e Employee) int { return e.Department })
	return d
}

// manager says whom an employee reports to, as of one instant.
func (d *directory) manager(node *lockstep.Node, employee int) (answer string) {
	node.View(func(v *lockstep.View) {
		e, ok := d.employees.At(v).Get(employee)
		if !ok {
			answer = "nobody of that number works here"
			return
		}
		dept, _ := d.departments.At(v).Get(e.Department)
		boss := "nobody"
		if dept.Manager != nil {
			if m, ok := d.employees.At(v).Get(*dept.Manager); ok {
				boss = m.Name
			}
		}
		answer = fmt.Sprintf("%s (%s) reports to %s", e.Name, dept.Name, boss)
	})
	return answer
}

// forPage are the tables as the page looks into them.
func (d *directory) forPage() []*window.Table {
	return []*window.Table{
		window.TableOf(d.employees, strconv.Itoa, strconv.Atoi).As("employees"),
		window.TableOf(d.departments, strconv.Itoa, strconv.Atoi).As("departments"),
	}
}

// rows is everything as of one view, as text, in order.
func (d *directory) rows(v *lockstep.View) []string {
	var out []string
	for _, r := range d.departments.At(v).All() {
		out = append(out, departmentLine(r))
	}
	for _, r := range d.employees.At(v).All() {
		out = append(out, employeeLine(r))
	}
	slices.Sort(out)
	return out
}

func departmentLine(d Department) string {
	manager := "none"
	if d.Manager != nil {
		manager = fmt.Sprint(*d.Manager)
	}
	return fmt.Sprintf("department %d %q manager %s", d.ID, d.Name, manager)
}

func employeeLine(e Employee) string {
	return fmt.Sprintf("employee %d %q department %d salary %d stamp %d", e.ID, e.Name, e.Department, e.Salary, e.Stamp)
}
