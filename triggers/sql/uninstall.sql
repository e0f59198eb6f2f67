-- Everything of ours. Tables of the application were detached before.
drop schema :"schema" cascade;
