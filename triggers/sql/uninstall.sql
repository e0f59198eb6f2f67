-- Everything of ours. Tables of the application were detached before.
drop publication if exists :"publication";
drop schema :"schema" cascade;
